"""Which events end which answers."""

from __future__ import annotations

import pytest

from extauthz.access import generations
from extauthz.access.generations import Generations, Scope
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject

ANN = Subject.authenticated("ann", ("devs",))
IN_TEAM_A = ResourceAttributes("list", resource="pods", namespace="team-a")
EVERYWHERE = ResourceAttributes("list", resource="pods")
VERSION = NonResourceAttributes("get", "/version")


@pytest.mark.parametrize("asked", [IN_TEAM_A, EVERYWHERE, VERSION])
@pytest.mark.parametrize("scope", [("User", "ann"), ("Group", "devs"), ("Group", "system:authenticated")])
def test_an_event_of_the_user_or_a_group_ends_every_answer_of_theirs(asked: Attributes, scope: Scope) -> None:
    """A ClusterRoleBinding can change any answer of the users and groups it names."""
    counted = Generations()
    counted.raise_for([("User", "someone"), scope])
    assert not counted.unchanged_since(0, ANN, asked)
    assert counted.unchanged_since(counted.epoch, ANN, asked)


@pytest.mark.parametrize("scope", [("User", "devs"), ("Group", "ann"), ("Namespace", "team-b"), ("Namespace", "ann")])
def test_an_event_of_others_leaves_an_answer_alone(scope: Scope) -> None:
    """Another namespace, another user, or a group of the user's name does not end an answer."""
    counted = Generations()
    counted.raise_for([scope])
    assert counted.unchanged_since(0, ANN, IN_TEAM_A)


def test_an_event_of_a_namespace_ends_only_answers_in_it() -> None:
    """Roles and RoleBindings count for attributes in their own namespace and for nothing else."""
    counted = Generations()
    counted.raise_for([("Namespace", "team-a")])
    assert not counted.unchanged_since(0, ANN, IN_TEAM_A)
    assert counted.unchanged_since(0, ANN, EVERYWHERE)
    assert counted.unchanged_since(0, ANN, VERSION)


def test_a_binding_of_the_namespace_named_nothing_is_not_the_whole_cluster() -> None:
    """An empty namespace asks for all namespaces; it is not a namespace that has events."""
    counted = Generations()
    counted.raise_for([("Namespace", "")])
    assert counted.unchanged_since(0, ANN, EVERYWHERE)


@pytest.mark.parametrize("asked", [IN_TEAM_A, EVERYWHERE, VERSION])
def test_an_event_of_everything_ends_every_answer(asked: Attributes) -> None:
    """A ClusterRole may be named by any binding, so its event ends all answers."""
    counted = Generations()
    counted.raise_all()
    assert not counted.unchanged_since(0, ANN, asked)


def test_the_youngest_event_counts() -> None:
    """Of several events that could change an answer the last one is told, with its time."""
    now = 1.0
    counted = Generations(lambda: now)
    counted.raise_for([("User", "ann")])
    now = 2.0
    counted.raise_for([("Namespace", "team-a")])
    assert counted.latest(ANN, IN_TEAM_A) == (2, 2.0)
    now = 3.0
    counted.raise_all()
    assert counted.latest(ANN, IN_TEAM_A) == (3, 3.0)


def test_scopes_are_bounded_without_forgetting_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """When more names had events than are remembered, all answers end rather than one too few."""
    monkeypatch.setattr(generations, "MAX_SCOPES", 3)
    counted = Generations()
    counted.raise_for(("User", str(number)) for number in range(4))
    assert not counted.unchanged_since(0, ANN, VERSION)
    assert counted.unchanged_since(counted.epoch, ANN, VERSION)


def test_nothing_is_watched_until_a_watch_says_so() -> None:
    """Without a watch the counters say that events do not arrive, and a change of that is noticed."""
    counted = Generations()
    assert not counted.watched
    counted.watched = True
    assert counted.epoch == 1
    counted.watched = True
    assert counted.epoch == 1
    assert counted.unchanged_since(0, ANN, IN_TEAM_A)


def test_a_watch_of_a_server_that_does_not_answer_is_not_believed() -> None:
    """A hanging API server keeps its watches open; while reviews go unanswered nothing counts as seen."""
    counted = Generations()
    counted.watched = True
    for answering in (False, True):
        before = counted.epoch
        counted.tell_answering(answering)
        assert counted.watched is answering
        assert counted.epoch > before
    counted.tell_answering(False)
    counted.watched = False
    counted.tell_answering(True)
    assert not counted.watched
