"""Local evaluation over the watched objects, and when it stops being believed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from extauthz.access.cache import Reviewer
from extauthz.access.generations import Generations
from extauthz.access.local import LocalAuthorizer
from extauthz.errors import Unavailable
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.subject import Subject
from tests.apiserver.manifests import binding, role, rule, user

ANN = Subject.authenticated("ann")
LIST_PODS = ResourceAttributes("list", resource="pods", namespace="team-a")
VERSIONED = {"apiVersion": "rbac.authorization.k8s.io/v1"}
EDITOR: dict[str, Any] = VERSIONED | role("editor", rule(["list"], ["pods"]))
GRANT: dict[str, Any] = VERSIONED | binding("grant", "editor", user("ann"), namespace="team-a")


class Server:
    """A real authorizer that says what the test tells it to."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.asked = asyncio.Semaphore(0)

    async def review(self, subject: Subject, attributes: Attributes) -> Review:
        assert subject == ANN
        self.asked.release()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Review(attributes, answer, reason="real")


def local(real: Reviewer, *, fallback: Server | None = None, sample: float = 1.0) -> LocalAuthorizer:
    """A synced local authorizer that knows Ann's right to list pods, and compares every answer."""
    generations = Generations()
    generations.watched = True
    authorizer = LocalAuthorizer(
        generations,
        fallback=fallback or Server(),
        real=real,
        sample=sample,
        settling_seconds=0,
        chance=lambda: 0.5,
    )
    authorizer.apply(EDITOR)
    authorizer.apply(GRANT)
    return authorizer


async def compared(authorizer: LocalAuthorizer) -> None:
    """Wait for the comparison under way."""
    assert authorizer._comparison
    await authorizer._comparison


async def test_answers_follow_the_watched_objects() -> None:
    """What the watch tells is what is answered, at once and without asking."""
    authorizer = local(Server(), sample=0)
    allowed = authorizer.review(ANN, LIST_PODS)
    assert isinstance(allowed, Review)
    assert allowed.allowed
    authorizer.delete("RoleBinding", "team-a", "grant")
    refused = authorizer.review(ANN, LIST_PODS)
    assert isinstance(refused, Review)
    assert not refused.allowed
    assert authorizer.counts.local == 2


async def test_while_the_watch_is_not_synced_reviews_are_asked() -> None:
    """Objects that may be out of date decide nothing."""
    authorizer = local(Server(), fallback=Server(False))
    authorizer._generations.watched = False
    answer = authorizer.review(ANN, LIST_PODS)
    assert not isinstance(answer, Review)
    assert not (await answer).allowed
    assert authorizer.counts.fallback == 1


async def test_an_object_that_cannot_be_read_ends_local_evaluation(caplog: pytest.LogCaptureFixture) -> None:
    """A role that we do not understand could grant or need anything."""
    authorizer = local(Server(), fallback=Server(False))
    authorizer.apply({**EDITOR, "rules": [{"verbs": "all"}]})
    answer = authorizer.review(ANN, LIST_PODS)
    assert not isinstance(answer, Review)
    assert not (await answer).allowed
    assert "ClusterRole 'editor' could not be read" in authorizer.problems()[0]
    assert "local RBAC evaluation is off" in caplog.text


async def test_equal_answers_are_counted() -> None:
    """A real review that agrees confirms local evaluation."""
    authorizer = local(Server(True))
    assert isinstance(authorizer.review(ANN, LIST_PODS), Review)
    await compared(authorizer)
    assert authorizer.counts.verified == 1
    assert authorizer.problems() == []


async def test_a_difference_that_stays_ends_local_evaluation(caplog: pytest.LogCaptureFixture) -> None:
    """When a settled review still differs, reviews are asked from then on, and everyone is told."""
    authorizer = local(Server(False, False), fallback=Server(False))
    authorizer.review(ANN, LIST_PODS)
    await compared(authorizer)
    assert authorizer.counts.differences == 1
    answer = authorizer.review(ANN, LIST_PODS)
    assert not isinstance(answer, Review)
    assert not (await answer).allowed
    assert "a real review differs for 'ann'" in authorizer.problems()[0]
    assert "a real review differs" in caplog.text


async def test_a_difference_that_passes_decides_nothing() -> None:
    """Watch and API server may each be late for a moment."""
    authorizer = local(Server(False, True))
    authorizer.review(ANN, LIST_PODS)
    await compared(authorizer)
    assert authorizer.counts.undecided == 1
    assert authorizer.problems() == []


async def test_a_difference_during_changes_decides_nothing() -> None:
    """An event between the two looks leaves open who was late."""
    real = Server(False, False)
    authorizer = local(real)
    authorizer.review(ANN, LIST_PODS)
    await real.asked.acquire()
    authorizer._generations.raise_all()
    await compared(authorizer)
    assert authorizer.counts.undecided == 1
    assert authorizer.problems() == []


async def test_an_outage_decides_nothing() -> None:
    """A comparison without an answer is no difference; local answers go on."""
    authorizer = local(Server(Unavailable("apiserver_timeout", "no answer"), True))
    authorizer.review(ANN, LIST_PODS)
    await compared(authorizer)
    assert authorizer.counts.undecided == 1
    assert isinstance(authorizer.review(ANN, LIST_PODS), Review)
    await compared(authorizer)
    assert (authorizer.counts.undecided, authorizer.counts.verified) == (1, 1)


async def test_what_stays_undecided_is_counted_each_time() -> None:
    """An outage and a difference that passes."""
    outage = Unavailable("apiserver_timeout", "no answer")
    authorizer = local(Server(False, True, outage, outage, False, True))
    for times in range(1, 5):
        authorizer.review(ANN, LIST_PODS)
        await compared(authorizer)
        assert authorizer.counts.undecided == times


async def test_a_real_answer_at_hand_is_compared_as_well() -> None:
    """An authorizer may know it without asking."""

    class AtHand:
        def review(self, subject: Subject, attributes: Attributes) -> Review:
            return Review(attributes, allowed=True)

    authorizer = local(AtHand())
    authorizer.review(ANN, LIST_PODS)
    await compared(authorizer)
    assert authorizer.counts.verified == 1


async def test_one_comparison_at_a_time() -> None:
    """A flood of requests is no flood of reviews, and closing ends the comparison."""
    real = Server(True)
    authorizer = local(real)
    for _ in range(100):
        authorizer.review(ANN, LIST_PODS)
    await authorizer.close()
    assert len(real.answers) == 1
    assert authorizer._comparison
    assert authorizer._comparison.done()
    await authorizer.close()


async def test_only_a_sample_is_compared() -> None:
    """Below the sample's share no review is asked."""
    authorizer = local(Server(), sample=0.5)
    authorizer.review(ANN, LIST_PODS)
    assert authorizer._comparison is None
    await authorizer.close()
