"""Which events raise which generations, and what a list does."""

from __future__ import annotations

from typing import Any

import pytest

from extauthz.access.generations import Generations
from extauthz.access.watch.objects import KnownObjects
from extauthz.access.watch.resources import RESOURCES, Manifest
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject
from tests.apiserver.manifests import binding, group, namespace, role, service_account, user

ANN = Subject.authenticated("ann", ("devs",))
ROBOT = Subject.authenticated("system:serviceaccount:team-a:robot", ("system:serviceaccounts",))
IN_TEAM_A = ResourceAttributes("list", resource="pods", namespace="team-a")
IN_TEAM_B = ResourceAttributes("list", resource="pods", namespace="team-b")
EVERYWHERE = ResourceAttributes("list", resource="pods")
VERSION = NonResourceAttributes("get", "/version")
ALL: set[Attributes] = {IN_TEAM_A, IN_TEAM_B, EVERYWHERE, VERSION}


class Copy:
    """A sink that remembers what it is told."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Manifest] = {}

    def apply(self, data: Manifest) -> None:
        metadata = data["metadata"]
        self.objects[data["kind"], metadata.get("namespace", ""), metadata["name"]] = data

    def delete(self, kind: str, namespace: str, name: str) -> None:
        del self.objects[kind, namespace, name]


class Known:
    """The known objects of one kind, and what their events end."""

    def __init__(self, plural: str) -> None:
        resource = next(resource for resource in RESOURCES if resource.plural == plural)
        self.generations = Generations()
        self.copy = Copy()
        self.objects = KnownObjects(resource, self.generations, self.copy)
        self.seen = 0

    def ended(self, subject: Subject = ANN) -> set[Attributes]:
        """Return which of all questions the events since the last call could have changed."""
        since, self.seen = self.seen, self.generations.epoch
        return {asked for asked in ALL if not self.generations.unchanged_since(since, subject, asked)}


@pytest.mark.parametrize(
    ("plural", "manifest"),
    [
        ("roles", role("r", namespace="team-a")),
        ("rolebindings", binding("b", "r", user("someone"), namespace="team-a")),
        ("namespaces", namespace("team-a")),
    ],
)
def test_namespaced_objects_end_answers_in_their_namespace(plural: str, manifest: dict[str, Any]) -> None:
    """Whether added, modified or deleted, a Role, RoleBinding or Namespace touches that namespace alone."""
    known = Known(plural)
    known.objects.apply(manifest)
    assert known.ended() == {IN_TEAM_A}
    known.objects.apply(manifest)
    assert known.ended() == {IN_TEAM_A}
    known.objects.remove(manifest)
    assert known.ended() == {IN_TEAM_A}


def test_a_cluster_role_ends_all_answers() -> None:
    """Whoever binds it, wherever, by whatever aggregation, is covered."""
    known = Known("clusterroles")
    known.objects.apply(role("r"))
    assert known.ended() == ALL
    known.objects.remove(role("r"))
    assert known.ended() == ALL


@pytest.mark.parametrize("subject", [user("ann"), group("devs"), group("system:authenticated")])
def test_a_cluster_role_binding_ends_all_answers_of_its_subjects(subject: dict[str, Any]) -> None:
    """Users, and members of groups, that the binding names."""
    known = Known("clusterrolebindings")
    known.objects.apply(binding("b", "r", user("someone"), subject))
    assert known.ended() == ALL
    known.objects.remove(binding("b", "r", user("someone"), subject))
    assert known.ended() == ALL


@pytest.mark.parametrize(
    "subjects", [[], [user("bob")], [group("ann")], [user("devs")], [service_account("team-a", "ann")]]
)
def test_a_cluster_role_binding_leaves_others_alone(subjects: list[dict[str, Any]]) -> None:
    """A binding of other subjects, or of none, cannot change this user's answers."""
    known = Known("clusterrolebindings")
    known.objects.apply(binding("b", "r", *subjects))
    assert known.ended() == set()


def test_a_service_account_is_the_user_of_its_name() -> None:
    """A ServiceAccount subject touches the answers of the user that Kubernetes makes of it."""
    known = Known("clusterrolebindings")
    known.objects.apply(binding("b", "r", service_account("team-a", "robot")))
    assert known.ended(ROBOT) == ALL


def test_subjects_that_a_binding_loses_are_covered() -> None:
    """The new object names only who is left, yet the removed user's answers end too."""
    known = Known("clusterrolebindings")
    known.objects.apply(binding("b", "r", user("ann"), user("bob")))
    known.ended()
    known.objects.apply(binding("b", "r", user("bob")))
    assert known.ended() == ALL
    known.objects.apply(binding("b", "r", user("bob"), user("carl")))
    assert known.ended() == set()


def test_a_subject_of_an_unknown_kind_could_be_anyone() -> None:
    """What we do not understand ends all answers."""
    known = Known("clusterrolebindings")
    known.objects.apply(binding("b", "r", {"kind": "Robot", "name": "x"}))
    assert known.ended() == ALL


@pytest.mark.parametrize("nothing", [None, []])
def test_a_binding_without_subjects_touches_nobody(nothing: object) -> None:
    """Dumps and API servers leave subjects out or send null."""
    known = Known("clusterrolebindings")
    known.objects.apply({**binding("b", "r"), "subjects": nothing})
    assert known.ended() == set()


def test_a_list_ends_all_answers_even_if_nothing_differs() -> None:
    """Between two lists something may have been granted and revoked again without a trace."""
    known = Known("rolebindings")
    for _ in range(2):
        known.objects.begin_list()
        known.objects.apply(binding("b", "r", namespace="team-a"))
        assert known.ended() == set()
        known.objects.end_list()
        assert known.ended() == ALL


def test_the_sink_holds_what_there_is() -> None:
    """Objects that a list no longer names are deleted, listed items get their kind, events are passed on."""
    known = Known("rolebindings")
    known.objects.apply(binding("old", "r", namespace="team-a"))
    known.objects.begin_list()
    whole = {**binding("new", "r", namespace="team-a"), "apiVersion": "rbac.authorization.k8s.io/v1"}
    bare = {key: value for key, value in whole.items() if key not in ("kind", "apiVersion")}
    known.objects.apply(bare)
    assert known.objects.listing
    known.objects.end_list()
    assert not known.objects.listing
    assert known.copy.objects == {("RoleBinding", "team-a", "new"): whole}
    known.objects.remove(bare)
    assert known.copy.objects == {}


def test_a_list_that_broke_off_can_begin_again() -> None:
    """Objects of an unfinished list are not mistaken for those of the next."""
    known = Known("roles")
    known.objects.begin_list()
    known.objects.apply(role("a", namespace="x"))
    known.objects.begin_list()
    known.objects.apply(role("b", namespace="x"))
    known.objects.end_list()
    assert list(known.copy.objects) == [("Role", "x", "b")]


def test_collections_are_where_kubernetes_serves_them() -> None:
    """Core resources and those of an API group have different prefixes."""
    paths = {resource.plural: resource.path for resource in RESOURCES}
    assert paths["namespaces"] == "/api/v1/namespaces"
    assert paths["rolebindings"] == "/apis/rbac.authorization.k8s.io/v1/rolebindings"
