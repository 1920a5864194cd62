"""RBAC objects for tests, as kube-apiserver would list them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extauthz.access.rbac import RbacAuthorizer, RbacStore
from extauthz.access.rbac.objects import API_VERSION, GROUP
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes, Review
from extauthz.subject import Subject

DATA = Path(__file__).parents[3] / "data" / "rbac"

Json = dict[str, Any]


def role(name: str, *rules: Json, namespace: str = "") -> Json:
    """Return a Role, or a ClusterRole without a namespace."""
    return {**_head("Role", name, namespace), "rules": list(rules)}


def binding(name: str, *subjects: Json, namespace: str = "", to: str = "r", kind: str = "ClusterRole") -> Json:
    """Return a RoleBinding, or a ClusterRoleBinding without a namespace."""
    ref = {"apiGroup": GROUP, "kind": kind, "name": to}
    return {**_head("RoleBinding", name, namespace), "roleRef": ref, "subjects": list(subjects)}


def user(name: str) -> Json:
    """Return a subject of kind User."""
    return {"kind": "User", "apiGroup": GROUP, "name": name}


def get(*resources: str) -> Json:
    """Return a rule that permits to get core resources."""
    return {"apiGroups": [""], "resources": list(resources), "verbs": ["get"]}


def store(*objects: Json) -> RbacStore:
    """Return a store to which objects came one by one."""
    filled = RbacStore()
    for item in objects:
        filled.apply(item)
    return filled


def ask(
    filled: RbacStore,
    name: str,
    attributes: Attributes | None = None,
    *,
    groups: tuple[str, ...] = (),
    namespace: str = "",
) -> Review:
    """Ask for attributes, or whether pods can be got."""
    asked = attributes or ResourceAttributes("get", resource="pods", namespace=namespace)
    return RbacAuthorizer(filled).review(Subject(name, groups), asked)


def attributes(text: str, namespace: str = "") -> Attributes:
    """Read "VERB GROUP RESOURCE SUBRESOURCE NAME" or "url VERB PATH", with `-` for an empty part."""
    parts = ["" if part == "-" else part for part in text.split()]
    if parts[0] == "url":
        return NonResourceAttributes(parts[1], parts[2])
    verb, group, resource, subresource, name = parts
    return ResourceAttributes(verb, group, "", resource, subresource, namespace, name)


def _head(kind: str, name: str, namespace: str) -> Json:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": API_VERSION, "kind": kind if namespace else f"Cluster{kind}", "metadata": metadata}
