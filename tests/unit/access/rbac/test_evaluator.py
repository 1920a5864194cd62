"""The evaluator against tables of kube-apiserver's behaviour."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from extauthz.access.rbac import RbacStore
from extauthz.access.rbac.objects import API_VERSION, decode
from extauthz.review import NonResourceAttributes, ResourceAttributes
from tests.unit.access.rbac.cluster import DATA, Json, ask, attributes, binding, get, role, store, user


def table(name: str) -> list[Any]:
    rows = yaml.safe_load((DATA / f"{name}.yaml").read_text())
    return [pytest.param(row, id=row["title"].replace(" ", "-")) for row in rows]


@pytest.mark.parametrize("row", table("rules"))
def test_a_rule_permits_exactly_what_it_should(row: Json) -> None:
    """One rule in a ClusterRole answers each request of the table as kube-apiserver does."""
    filled = store(role("r", row["rule"]), binding("b", user("u")))
    answers = {asked: ask(filled, "u", attributes(asked)).allowed for asked in row["permits"] + row["refuses"]}
    assert answers == {**dict.fromkeys(row["permits"], True), **dict.fromkeys(row["refuses"], False)}


@pytest.mark.parametrize("row", table("subjects"))
def test_a_binding_applies_to_exactly_its_subjects(row: Json) -> None:
    """A binding applies to the subjects it names, and the answer names the first of them."""
    bound = binding("b", namespace="" if row.get("cluster") else "ns")
    bound["subjects"] = row["subjects"]
    filled = store(role("r", get("pods")), bound)
    for asked in row["reviews"]:
        groups = tuple(asked.get("groups", ()))
        answer = ask(filled, asked.get("user", ""), groups=groups, namespace=asked.get("in", ""))
        reason = asked.get("reason", "")
        assert (answer.allowed, answer.reason) == (asked.get("allowed", bool(reason)), reason), asked


@pytest.mark.parametrize("row", table("aggregation"))
def test_aggregated_roles_have_the_union_of_what_they_select(row: Json) -> None:
    """Each role of the table ends with the granted words, whether all came at once or one by one in any order."""
    objects = [aggregated(name, **spec) for name, spec in row["roles"].items()]
    bindings = [binding(name, user(name), to=name) for name in row["roles"]]
    at_once = RbacStore(decode(item) for item in objects + bindings)
    one_by_one = [] if row.get("atOnce") else [store(*objects, *bindings), store(*objects[::-1], *bindings)]
    for filled in (at_once, *one_by_one):
        assert {name: permitted(filled, name) for name in row["result"]} == row["result"]


def permitted(filled: RbacStore, name: str) -> list[str]:
    words = ("jobs", "nodes", "one", "pods", "roles", "secrets", "three", "two")
    return [word for word in words if ask(filled, name, ResourceAttributes("get", resource=word)).allowed]


def aggregated(
    name: str, labels: Json | None = None, select: list[Json] | None = None, own: list[str] | None = None
) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels},
        "aggregationRule": None if select is None else {"clusterRoleSelectors": select},
        "rules": None if own is None else [get(word) for word in own],
    }


def test_a_missing_role_is_the_reason_of_a_refusal() -> None:
    """A binding to a role that does not exist grants nothing and says so."""
    filled = store(binding("b", user("u"), to="x"))
    answer = ask(filled, "u")
    assert not answer.allowed
    assert answer.reason == 'RBAC: clusterrole.rbac.authorization.k8s.io "x" not found'


def test_several_missing_roles_are_listed_once_each() -> None:
    """Errors are collected in brackets, cluster-wide bindings first, without repetition."""
    filled = store(
        binding("b", user("u"), to="x"),
        binding("c", user("u"), to="x"),
        binding("a", user("u"), namespace="ns", to="y", kind="Role"),
    )
    assert ask(filled, "u", namespace="ns").reason == (
        'RBAC: [clusterrole.rbac.authorization.k8s.io "x" not found, role.rbac.authorization.k8s.io "y" not found]'
    )


def test_a_missing_role_does_not_hinder_another_binding() -> None:
    """Another binding that grants still allows, and the missing role is not mentioned."""
    filled = store(role("r", get("pods")), binding("a", user("u"), to="x"), binding("b", user("u"), namespace="ns"))
    answer = ask(filled, "u", namespace="ns")
    assert answer.reason == 'RBAC: allowed by RoleBinding "b/ns" of ClusterRole "r" to User "u"'


def test_a_role_counts_only_in_its_own_namespace() -> None:
    """A RoleBinding finds the Role of its own namespace, never one of another or a ClusterRole of that name."""
    bound = binding("b", user("u"), namespace="ns", kind="Role")
    elsewhere = store(role("r", get("pods"), namespace="other"), role("r", get("pods")), bound)
    assert not ask(elsewhere, "u", namespace="ns").allowed
    here = store(role("r", get("pods"), namespace="ns"), bound)
    assert ask(here, "u", namespace="ns").reason == 'RBAC: allowed by RoleBinding "b/ns" of Role "r" to User "u"'


def test_urls_are_granted_cluster_wide_only() -> None:
    """A RoleBinding to a ClusterRole with nonResourceURLs grants none of them."""
    urls = role("r", {"nonResourceURLs": ["*"], "verbs": ["*"]})
    healthz = NonResourceAttributes("get", "/healthz")
    assert not ask(store(urls, binding("b", user("u"), namespace="ns")), "u", healthz).allowed
    assert ask(store(urls, binding("b", user("u"))), "u", healthz).allowed


def test_the_cluster_wide_binding_is_named_before_the_namespace_one() -> None:
    """Where both grant, the ClusterRoleBinding is the reason."""
    filled = store(role("r", get("pods")), binding("a", user("u"), namespace="ns"), binding("z", user("u")))
    assert "ClusterRoleBinding" in ask(filled, "u", namespace="ns").reason


def test_rules_that_are_null_grant_nothing() -> None:
    """A role dumped with `rules: null` is found, so its binding gives no reason."""
    filled = store({**role("r"), "rules": None}, binding("b", user("u")))
    assert (ask(filled, "u").allowed, ask(filled, "u").reason) == (False, "")


def test_a_superuser_is_allowed_what_was_asked() -> None:
    """The answer is about the question, though no binding was looked at and no reason is given."""
    asked = ResourceAttributes("delete", resource="nodes")
    answer = ask(store(), "u", asked, groups=("others", "system:masters"))
    assert (answer.attributes, answer.allowed, answer.reason) == (asked, True, "")


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        ("\u00e4 b", '"\u00e4 b"'),
        ("a\n\x01\x7f", r'"a\n\x01\x7f"'),
        ("\u200b\U000e0001", r'"\u200b\U000e0001"'),
    ],
)
def test_names_are_quoted_as_go_does(name: str, quoted: str) -> None:
    """No name can end its quotes or break a line of a log."""
    reason = ask(store(role("r", get("pods")), binding("b", user(name))), name).reason
    assert reason == f'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to User {quoted}'


def test_only_stars_are_taken_off_a_url() -> None:
    """What stands before the star of a URL must stand in the path."""
    filled = store(role("r", {"verbs": ["get"], "nonResourceURLs": ["/X*"]}), binding("b", user("u")))
    answers = [ask(filled, "u", NonResourceAttributes("get", path)).allowed for path in ("/X", "/Xy", "/y", "/")]
    assert answers == [True, True, False, False]
