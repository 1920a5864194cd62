"""The demo's manifests hold what the scenario speaks of, and only RBAC."""

from __future__ import annotations

from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[3] / "extauthz" / "demo" / "files" / "rbac"
OBJECTS = [item for file in sorted(FOLDER.glob("*.yaml")) for item in yaml.safe_load_all(file.read_text())]
KINDS = {"Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


def test_only_rbac_and_what_it_refers_to() -> None:
    """Nothing else of Kubeflow is shipped, and nothing twice."""
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in OBJECTS]
    assert {kind for kind, _, _ in names} <= KINDS
    assert len(set(names)) == len(names)


def test_every_binding_names_a_role_that_is_there() -> None:
    """No binding dangles."""
    roles = {item["metadata"]["name"] for item in OBJECTS if item["kind"] == "ClusterRole"}
    bindings = [item for item in OBJECTS if item["kind"].endswith("Binding")]
    assert {item["roleRef"]["name"] for item in bindings} <= roles


def test_the_three_tenants() -> None:
    """Each team has an owner, its ServiceAccounts and the auditors."""
    for team, owner in {"team-a": "alice", "team-b": "bob", "team-c": "carol"}.items():
        bindings = [item for item in OBJECTS if item["kind"] == "RoleBinding" and item["metadata"]["namespace"] == team]
        bound = {(item["roleRef"]["name"], subject["name"]) for item in bindings for subject in item["subjects"]}
        assert ("kubeflow-admin", f"{owner}@example.com") in bound
        assert {("kubeflow-edit", "default-editor"), ("kubeflow-view", "default-viewer")} <= bound
        assert ("kubeflow-view", "data-auditors") in bound
