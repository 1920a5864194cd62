"""Whose a namespace is, as far as its annotation says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extauthz.access import authority, rbac
from extauthz.access.owners import Owners
from extauthz.errors import ConfigurationError
from extauthz.settings import Access


def namespace(owner: object = None, **metadata: Any) -> dict[str, Any]:
    """Return a Namespace."""
    annotations = {} if owner is None else {"annotations": {"owner": owner}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", **annotations, **metadata}}


def test_the_annotation_names_the_owner() -> None:
    """And follows each change until the Namespace is gone."""
    owners = Owners()
    assert owners.of("team-a") == ""
    owners.apply(namespace("alice"))
    assert owners.of("team-a") == "alice"
    owners.apply(namespace("bob"))
    assert owners.of("team-a") == "bob"
    for _ in range(2):
        owners.delete("Namespace", "", "team-a")
        assert owners.of("team-a") == ""


@pytest.mark.parametrize("owner", ["a", "a" * 256])
def test_owners_up_to_the_bound_are_told(owner: str) -> None:
    """It leaves room for every mail address."""
    owners = Owners()
    owners.apply(namespace(owner))
    assert owners.of("team-a") == owner


@pytest.mark.parametrize("owner", [None, "", 7, "a\nb", "a" * 257])
def test_what_is_no_short_line_is_no_owner(owner: object) -> None:
    """Whoever may change the Namespace writes it; the last good name does not stay either."""
    owners = Owners()
    owners.apply(namespace("alice"))
    owners.apply(namespace(owner))
    assert owners.of("team-a") == ""


def test_manifests_tell_owners(tmp_path: Path) -> None:
    """As single objects and in lists, as `kubectl get namespaces` prints them."""
    (tmp_path / "one.yaml").write_text(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a, annotations: {owner: alice}}\n---\n"
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: team-b, annotations: {owner: bob}}}\n---\n"
        "apiVersion: v1\nkind: Namespace\nmetadata: {}\n---\n"
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: team-c, annotations: {owner: carol}}\n"
    )
    embedded = authority.of(Access.model_validate({"rbac": {"manifests": ["one.yaml"]}}), tmp_path.joinpath)
    assert [embedded.owner(name) for name in ("team-a", "team-b", "team-c", "")] == ["alice", "bob", "", ""]


def test_an_unreadable_namespace_is_named(tmp_path: Path) -> None:
    """kube-apiserver would refuse it, too."""
    (tmp_path / "one.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: [x]}\n")
    with pytest.raises(ConfigurationError, match="annotations: expected an object"):
        rbac.load([tmp_path])
