"""RBAC objects that tests write, in one line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.apiserver.store import RBAC, Object

NAMESPACE = "extauthz"


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def role(name: str, *rules: Object, namespace: str = "") -> Object:
    """A Role, or a ClusterRole where no namespace is given."""
    return _object("Role", name, namespace) | {"rules": list(rules)}


def rule(verbs: Sequence[str], resources: Sequence[str], groups: Sequence[str] = ("",), **more: Any) -> Object:
    return {"verbs": list(verbs), "resources": list(resources), "apiGroups": list(groups), **more}


def binding(name: str, role_name: str, *subjects: Object, namespace: str = "", kind: str = "ClusterRole") -> Object:
    """A RoleBinding, or a ClusterRoleBinding where no namespace is given."""
    reference = {"apiGroup": RBAC, "kind": kind, "name": role_name}
    return _object("RoleBinding", name, namespace) | {"roleRef": reference, "subjects": list(subjects)}


def user(name: str) -> Object:
    return {"kind": "User", "name": name, "apiGroup": RBAC}


def group(name: str) -> Object:
    return {"kind": "Group", "name": name, "apiGroup": RBAC}


def service_account(namespace: str, name: str) -> Object:
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


def delegate() -> list[Object]:
    """Everything that extauthz itself needs: to review, and to watch RBAC."""
    account = service_account(NAMESPACE, "extauthz")
    watched = rule(["get", "list", "watch"], ["roles", "rolebindings", "clusterroles", "clusterrolebindings"], [RBAC])
    return [
        binding("extauthz-delegator", "system:auth-delegator", account),
        role("extauthz-watch", watched, rule(["get", "list", "watch"], ["namespaces"])),
        binding("extauthz-watch", "extauthz-watch", account),
    ]


def _object(kind: str, name: str, namespace: str) -> Object:
    if namespace:
        return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}
    return {"apiVersion": f"{RBAC}/v1", "kind": f"Cluster{kind}", "metadata": {"name": name}}
