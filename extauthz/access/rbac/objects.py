"""Roles and bindings, as kube-apiserver would store them.

`decode` turns the JSON form of an object of `rbac.authorization.k8s.io/v1` into values
with the server's defaults filled in. What the server would refuse is refused here: such
an object exists in no cluster, so it may grant nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from extauthz.access.rbac import fields, labels
from extauthz.access.rbac.fields import Object, Unacceptable
from extauthz.access.rbac.labels import Selector

GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{GROUP}/v1"
ROLES = frozenset({"Role", "ClusterRole"})
BINDINGS = frozenset({"RoleBinding", "ClusterRoleBinding"})
KINDS = ROLES | BINDINGS

Key = tuple[str, str, str]
"""Kind, namespace (empty for cluster-wide kinds) and name."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a role permits, with the field names of PolicyRule."""

    verbs: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Role:
    """A Role, or a ClusterRole where `namespace` is empty.

    `selectors` is the aggregation rule, None where there is none to be carried out.
    """

    namespace: str
    name: str
    rules: tuple[Rule, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    selectors: tuple[Selector, ...] | None = None

    @property
    def key(self) -> Key:
        return ("Role" if self.namespace else "ClusterRole", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class BoundSubject:
    """Whom a binding names. `namespace` is that of a ServiceAccount, the binding's own filled in."""

    kind: str
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """A RoleBinding, or a ClusterRoleBinding where `namespace` is empty."""

    namespace: str
    name: str
    role: Key
    subjects: tuple[BoundSubject, ...] = ()

    @property
    def key(self) -> Key:
        return ("RoleBinding" if self.namespace else "ClusterRoleBinding", self.namespace, self.name)


def key_of(data: Object) -> Key:
    """Return what an object is called. Raises Undecodable, and Unacceptable where a name is missing."""
    kind = fields.text(data, "kind")
    metadata = fields.object_(data, "metadata")
    name = fields.text(metadata, "name")
    if not _is_segment(name):
        raise Unacceptable(f"metadata.name {name!r} is not a name")
    if kind.startswith("Cluster"):
        return kind, "", name
    namespace = fields.text(metadata, "namespace")
    if not namespace:
        raise Unacceptable("metadata.namespace is missing")
    return kind, namespace, name


def decode(data: Object) -> Role | Binding:
    """Read one object of KINDS. Raises Undecodable and Unacceptable."""
    if fields.text(data, "apiVersion") != API_VERSION:
        raise Unacceptable(f"apiVersion is not {API_VERSION}")
    kind, namespace, name = key_of(data)
    return _role(data, namespace, name) if kind in ROLES else _binding(data, namespace, name)


def _role(data: Object, namespace: str, name: str) -> Role:
    rules = tuple(_rule(item) for item in fields.objects(data, "rules"))
    for rule in rules:
        _check_rule(rule, namespaced=bool(namespace))
    if namespace:
        return Role(namespace, name, rules)
    metadata = fields.object_(data, "metadata")
    role_labels = fields.text_map(metadata, "labels")
    selectors = _selectors(data)
    return Role("", name, rules, role_labels, None if _is_stored(metadata) else selectors)


def _is_stored(metadata: Object) -> bool:
    """Whether an object was read from a server, which judges by the rules that it stores.

    The controller may not have filled an aggregated role yet, or there may be none; what
    it would write does not count until it is written.
    """
    return bool(fields.text(metadata, "uid") or fields.text(metadata, "resourceVersion"))


def _rule(data: Object) -> Rule:
    return Rule(
        fields.texts(data, "verbs"),
        fields.texts(data, "apiGroups"),
        fields.texts(data, "resources"),
        fields.texts(data, "resourceNames"),
        fields.texts(data, "nonResourceURLs"),
    )


def _check_rule(rule: Rule, *, namespaced: bool) -> None:
    if not rule.verbs:
        raise Unacceptable("a rule has no verbs")
    if rule.non_resource_urls:
        if namespaced:
            raise Unacceptable("a Role cannot grant nonResourceURLs")
        if rule.api_groups or rule.resources or rule.resource_names:
            raise Unacceptable("a rule has both resources and nonResourceURLs")
    elif not (rule.api_groups and rule.resources):
        raise Unacceptable("a rule needs apiGroups and resources, or nonResourceURLs")


def _selectors(data: Object) -> tuple[Selector, ...] | None:
    aggregation = fields.optional(data, "aggregationRule")
    if aggregation is None:
        return None
    selectors = tuple(labels.selector(item) for item in fields.objects(aggregation, "clusterRoleSelectors"))
    if not selectors:
        raise Unacceptable("aggregationRule has no clusterRoleSelectors")
    return selectors


def _binding(data: Object, namespace: str, name: str) -> Binding:
    subjects = tuple(_subject(item, namespace) for item in fields.objects(data, "subjects"))
    return Binding(namespace, name, _role_ref(fields.object_(data, "roleRef"), namespace), subjects)


def _role_ref(data: Object, namespace: str) -> Key:
    kind, name = fields.text(data, "kind"), fields.text(data, "name")
    if (fields.text(data, "apiGroup") or GROUP) != GROUP:
        raise Unacceptable(f"roleRef.apiGroup is not {GROUP}")
    if kind not in ROLES or (kind == "Role" and not namespace):
        raise Unacceptable(f"roleRef.kind {kind!r} cannot be bound here")
    if not _is_segment(name):
        raise Unacceptable(f"roleRef.name {name!r} is not a name")
    return kind, namespace if kind == "Role" else "", name


def _subject(data: Object, namespace: str) -> BoundSubject:
    kind, name, group = fields.text(data, "kind"), fields.text(data, "name"), fields.text(data, "apiGroup")
    own_namespace = fields.text(data, "namespace")
    if not name:
        raise Unacceptable("a subject has no name")
    if kind in ("User", "Group"):
        if group not in ("", GROUP):
            raise Unacceptable(f"the apiGroup of {kind} {name!r} is not {GROUP}")
        return BoundSubject(kind, name)
    if kind != "ServiceAccount" or group or not labels.is_domain(name):
        raise Unacceptable(f"{kind} {name!r} of apiGroup {group!r} cannot be a subject")
    if not (own_namespace or namespace):
        raise Unacceptable(f"ServiceAccount {name!r} of a ClusterRoleBinding has no namespace")
    return BoundSubject(kind, name, own_namespace or namespace)


def _is_segment(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "%" not in name
