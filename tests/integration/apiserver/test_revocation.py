"""A right that is taken away: reviews, cache and watch together, against an API server that lags."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from extauthz import settings
from extauthz.access.cache import CachedAuthorizer
from extauthz.access.generations import Generations
from extauthz.access.kubernetes.connection import Connection
from extauthz.access.kubernetes.reviews import KubernetesAuthorizer
from extauthz.access.watch import RbacWatch, State
from extauthz.errors import Unavailable
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.settings import ReviewCacheSettings, WatchSettings
from extauthz.subject import Subject
from tests.apiserver import Double, answer
from tests.apiserver.lagging import Lagging
from tests.apiserver.manifests import binding, role, rule, user
from tests.unit.access.desk import Clock

ANN, BOB = Subject.authenticated("ann"), Subject.authenticated("bob")
LIST_PODS = ResourceAttributes("list", "", "v1", "pods", "", "team-a", "")
EDITOR = role("editor", rule(["list"], ["pods"]))
GRANT = binding("grant", "editor", user("ann"), namespace="team-a")
ELSEWHERE = binding("grant", "editor", user("ann"), namespace="team-b")
REVIEWS = "create subjectaccessreviews"


class Access:
    """Everything between the gateway and the API server, with a clock in the test's hands."""

    def __init__(self, double: Double, connection: Connection) -> None:
        self.double = double
        self.clock = Clock()
        self.generations = Generations(self.clock)
        self.authorizer = CachedAuthorizer(
            KubernetesAuthorizer(connection, settings.KubernetesAuthorizer()),
            ReviewCacheSettings(allow_seconds=60, ttl_without_watch_seconds=10, settling_seconds=1),
            self.generations,
            clock=self.clock,
            wall=self.clock.wall,
        )
        brisk = WatchSettings(backoff_seconds=0.02, max_backoff_seconds=0.1)
        self.watch = RbacWatch(connection, brisk, self.generations, settling_seconds=0.05)

    async def may(self, subject: Subject = ANN, asked: Attributes = LIST_PODS) -> bool:
        answered = self.authorizer.review(subject, asked)
        return (answered if isinstance(answered, Review) else await answered).allowed

    async def revoke(self) -> None:
        """Delete the RoleBinding, and wait for the event of it."""
        epoch = self.generations.epoch
        self.double.erase(GRANT)
        await self.watch.wait_until(lambda: not self.generations.unchanged_since(epoch, ANN, LIST_PODS))

    @property
    def reviews(self) -> int:
        return self.double.calls[REVIEWS]


@pytest.fixture
async def access(double: Double, connection: Connection) -> AsyncIterator[Access]:
    """Ann may list pods in team-a; everything is synced and settled."""
    for manifest in (EDITOR, GRANT, ELSEWHERE):
        double.write(manifest)
    access = Access(double, connection)
    access.watch.start()
    await access.watch.wait_until(lambda: access.generations.watched)
    access.clock.now += 1
    yield access
    await access.authorizer.close()
    await access.watch.close()


async def test_a_revoked_right_is_refused_by_the_next_question(access: Access) -> None:
    """However fresh the kept allow, the event of the RoleBinding ends it."""
    assert await access.may()
    assert await access.may()
    assert access.reviews == 1
    await access.revoke()
    assert not await access.may()


async def test_a_granted_right_shows_at_once(access: Access) -> None:
    """A kept denial ends with the event too."""
    assert not await access.may(BOB)
    epoch = access.generations.epoch
    access.double.write(binding("more", "editor", user("bob")))
    await access.watch.wait_until(lambda: not access.generations.unchanged_since(epoch, BOB, LIST_PODS))
    assert await access.may(BOB)


async def test_other_namespaces_keep_their_answers(access: Access) -> None:
    """A revocation in team-a costs team-b no review."""
    in_team_b = replace(LIST_PODS, namespace="team-b")
    assert await access.may(asked=in_team_b)
    await access.revoke()
    assert await access.may(asked=in_team_b)
    assert access.reviews == 1


async def test_an_answer_of_a_lagging_server_does_not_outlive_the_settling_time(access: Access) -> None:
    """A server whose own informer lags says "allowed" after the event; that dies when the settling time ends."""
    access.double.lagging.lag_seconds = Lagging.MANUAL
    assert await access.may()
    await access.revoke()
    assert await access.may()
    access.clock.now += 0.999
    assert await access.may()
    assert access.reviews == 2
    access.double.settle()
    access.clock.now += 0.001
    assert not await access.may()
    access.clock.now += 5
    assert not await access.may()
    assert access.reviews == 3


async def test_an_answer_under_way_at_the_event_serves_only_who_asked_before(access: Access) -> None:
    """The review was evaluated before the revocation and answered after it: it is not kept, nor shared."""
    with access.double.held_answers() as gate:
        before = asyncio.create_task(access.may())
        await gate.reached(1)
        await access.revoke()
        after = asyncio.create_task(access.may())
        await gate.reached(2)
        gate.open()
        assert await before
        assert not await after
    assert not await access.may()
    assert access.reviews == 2


async def test_what_changes_while_the_watch_is_away_counts_when_it_is_back(access: Access) -> None:
    """A revocation in a gap is bounded by `ttlWithoutWatch`, and by the replayed event."""
    assert await access.may()
    with access.double.fault("/rolebindings", answer(503)):
        access.double.objects.drop_watches()
        await access.watch.wait_until(lambda: access.watch.states["rolebindings"] is State.DOWN)
        access.double.erase(GRANT)
        assert await access.may()
        access.clock.now += 10
        assert not await access.may()
        access.double.write(GRANT)
        assert not await access.may()
    await access.watch.wait_until(lambda: access.generations.watched)
    assert await access.may()


async def test_a_grant_that_came_and_went_in_a_forgotten_gap_leaves_nothing_behind(access: Access) -> None:
    """After a new list no answer from the gap survives, though both lists look the same."""
    more = binding("more", "editor", user("bob"), namespace="team-a")
    with access.double.fault("/rolebindings", answer(503)):
        access.double.objects.drop_watches()
        await access.watch.wait_until(lambda: access.watch.states["rolebindings"] is State.DOWN)
        access.double.write(more)
        assert await access.may(BOB)
        access.double.erase(more)
        access.double.objects.compact()
        assert await access.may(BOB)
    await access.watch.wait_until(lambda: access.generations.watched)
    assert not await access.may(BOB)


async def test_a_thousand_identical_questions_are_one_review(access: Access) -> None:
    """A burst of one question on a cold cache reaches the API server once."""
    assert all(await asyncio.gather(*(access.may() for _ in range(1000))))
    assert access.reviews == 1


async def test_a_session_of_repeated_questions_costs_few_reviews(access: Access) -> None:
    """Ten identical requests at a time, a hundred times over ten objects: ten reviews for a thousand requests."""
    for number in range(100):
        asked = replace(LIST_PODS, name=f"run-{number % 10}")
        await asyncio.gather(*(access.may(asked=asked) for _ in range(10)))
    assert access.reviews <= 10


async def test_an_outage_is_no_allow_and_ends_by_itself(access: Access) -> None:
    """While the API server fails, kept answers serve their time and nothing else is allowed."""
    assert await access.may()
    with access.double.fault("subjectaccessreviews", answer(500)):
        assert await access.may()
        with pytest.raises(Unavailable):
            await access.may(BOB)
        access.clock.now += 60
        with pytest.raises(Unavailable):
            await access.may()
