"""RBAC objects, indexed by namespace and subject, always up to date.

A review looks only at the bindings that name its user or one of its groups, in its
namespace and cluster-wide, however many others there are. Objects may come all at once,
or one by one from a watch; what they add up to is the same, but for the rules that were
written by hand in aggregated roles (see `aggregation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from extauthz.access.rbac.aggregation import ClusterRoles
from extauthz.access.rbac.fields import Object
from extauthz.access.rbac.objects import Binding, BoundSubject, Key, Role, Rule, decode
from extauthz.access.rbac.rules import RuleIndex
from extauthz.subject import Subject

_Grants = dict[str, tuple[int, Binding]]
"""By a binding's name: the place of the matching subject in it, and the binding."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A binding that applies to a subject, and the first of its subjects that does."""

    binding: Binding
    subject: BoundSubject


class RbacStore:
    """Roles and bindings of a whole cluster."""

    def __init__(self, objects: Iterable[Role | Binding] = ()) -> None:
        self._roles: dict[Key, Role] = {}
        self._bindings: dict[Key, Binding] = {}
        self._scopes: dict[str, _Scope] = {}
        self._compiled: dict[Key, RuleIndex] = {}
        for item in objects:
            self._put(item)
        self._cluster_roles = ClusterRoles(role for role in self._roles.values() if not role.namespace)

    def __len__(self) -> int:
        return len(self._roles) + len(self._bindings)

    def apply(self, data: Object) -> None:
        """Add or replace the object with this JSON form.

        Raises Undecodable and Unacceptable for what kube-apiserver would not have stored;
        the store is unchanged then.
        """
        item = decode(data)
        self._put(item)
        if isinstance(item, Role):
            self._compiled.pop(item.key, None)
            if not item.namespace:
                self._forget(self._cluster_roles.put(item))

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Remove an object; nothing happens where there is none. `namespace` is empty for cluster-wide kinds."""
        key = (kind, namespace, name)
        self._unbind(key)
        if self._roles.pop(key, None) is None:
            return
        self._compiled.pop(key, None)
        if not namespace:
            self._forget(self._cluster_roles.remove(name))

    def grants(self, namespace: str, subject: Subject) -> Iterator[Grant]:
        """Yield what bindings of a namespace (empty: the cluster-wide ones) grant a subject, by binding name."""
        scope = self._scopes.get(namespace)
        return scope.find(subject) if scope else iter(())

    def rules(self, key: Key) -> RuleIndex | None:
        """Return the effective rules of a role, or None if there is no such role."""
        index = self._compiled.get(key)
        if index is None:
            rules = self.effective(key)
            if rules is None:
                return None
            index = self._compiled[key] = RuleIndex(rules)
        return index

    def bindings(self, namespace: str) -> Iterator[Binding]:
        """Yield the bindings of a namespace (empty: the cluster-wide ones), by name."""
        return (self._bindings[key] for key in sorted(self._bindings) if key[1] == namespace)

    def effective(self, key: Key) -> tuple[Rule, ...] | None:
        """Return the rules of a role, aggregated ones filled in, or None if there is no such role."""
        kind, _, name = key
        if kind == "ClusterRole":
            return self._cluster_roles.rules(name)
        role = self._roles.get(key)
        return role.rules if role else None

    def _put(self, item: Role | Binding) -> None:
        if isinstance(item, Role):
            self._roles[item.key] = item
            return
        self._unbind(item.key)
        self._bindings[item.key] = item
        if item.subjects:
            self._scopes.setdefault(item.namespace, _Scope()).add(item)

    def _unbind(self, key: Key) -> None:
        binding = self._bindings.pop(key, None)
        if binding is None or not binding.subjects:
            return
        scope = self._scopes[binding.namespace]
        scope.remove(binding)
        if scope.is_empty():
            del self._scopes[binding.namespace]

    def _forget(self, cluster_roles: Iterable[str]) -> None:
        for name in cluster_roles:
            self._compiled.pop(("ClusterRole", "", name), None)


class _Scope:
    """The bindings of one namespace, by user name and by group."""

    __slots__ = ("_groups", "_users")

    def __init__(self) -> None:
        self._users: dict[str, _Grants] = {}
        self._groups: dict[str, _Grants] = {}

    def is_empty(self) -> bool:
        return not (self._users or self._groups)

    def add(self, binding: Binding) -> None:
        for place, subject in enumerate(binding.subjects):
            index, name = self._index(subject)
            index.setdefault(name, {}).setdefault(binding.name, (place, binding))

    def remove(self, binding: Binding) -> None:
        for subject in binding.subjects:
            index, name = self._index(subject)
            grants = index.get(name, {})
            grants.pop(binding.name, None)
            if not grants:
                index.pop(name, None)

    def find(self, subject: Subject) -> Iterator[Grant]:
        found: _Grants = {}
        for grants in self._naming(subject):
            for name, grant in grants.items():
                if name not in found or grant[0] < found[name][0]:
                    found[name] = grant
        for name in sorted(found):
            place, binding = found[name]
            yield Grant(binding, binding.subjects[place])

    def _naming(self, subject: Subject) -> Iterator[_Grants]:
        if subject.user in self._users:
            yield self._users[subject.user]
        groups = self._groups
        for group in subject.groups:
            if group in groups:
                yield groups[group]

    def _index(self, subject: BoundSubject) -> tuple[dict[str, _Grants], str]:
        if subject.kind == "Group":
            return self._groups, subject.name
        if subject.kind == "User":
            return self._users, subject.name
        return self._users, f"system:serviceaccount:{subject.namespace}:{subject.name}"
