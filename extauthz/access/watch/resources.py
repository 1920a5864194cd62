"""What is watched, and which answers an object can change.

Why these scopes are all of them is proved in `extauthz.access.generations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from extauthz.access.generations import Scope

Manifest = Mapping[str, Any]
Scopes = tuple[Scope, ...] | None
"""The scopes that an object touches; None means everything."""


class Sink(Protocol):
    """Whoever wants the RBAC objects themselves, as `extauthz.access.rbac.RbacStore` does."""

    def apply(self, data: Manifest) -> None: ...
    def delete(self, kind: str, namespace: str, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object: where it is served, and what its objects touch."""

    plural: str
    kind: str
    api_version: str
    scopes: Callable[[Manifest], Scopes]

    @property
    def path(self) -> str:
        """The collection of all namespaces."""
        return f"/{'apis' if '/' in self.api_version else 'api'}/{self.api_version}/{self.plural}"


def _own_namespace(manifest: Manifest) -> Scopes:
    return (("Namespace", manifest["metadata"]["namespace"]),)


def _itself(manifest: Manifest) -> Scopes:
    return (("Namespace", manifest["metadata"]["name"]),)


def _everything(_: Manifest) -> Scopes:
    return None


def _subjects(binding: Manifest) -> Scopes:
    scopes = [_subject(subject) for subject in binding.get("subjects") or ()]
    return None if None in scopes else tuple(scope for scope in scopes if scope)


def _subject(subject: Mapping[str, str]) -> Scope | None:
    kind, name = subject["kind"], subject["name"]
    if kind == "ServiceAccount":
        return "User", f"system:serviceaccount:{subject.get('namespace', '')}:{name}"
    return (kind, name) if kind in ("User", "Group") else None


RBAC = "rbac.authorization.k8s.io/v1"
RESOURCES = (
    Resource("roles", "Role", RBAC, _own_namespace),
    Resource("rolebindings", "RoleBinding", RBAC, _own_namespace),
    Resource("clusterroles", "ClusterRole", RBAC, _everything),
    Resource("clusterrolebindings", "ClusterRoleBinding", RBAC, _subjects),
    Resource("namespaces", "Namespace", "v1", _itself),
)
