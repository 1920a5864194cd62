"""Concurrent questions are one review, and each caller is answered on its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from extauthz.access.cache import CachedAuthorizer
from extauthz.access.generations import Generations
from extauthz.errors import Unavailable
from extauthz.review import Attributes, Review
from extauthz.settings import ReviewCacheSettings
from extauthz.subject import Subject
from tests.unit.access.desk import ANN, LIST_PODS, UNREACHABLE, Counter

TEAM_A = [("Namespace", "team-a")]


def ask(counter: Counter, subject: Subject = ANN, asked: Attributes = LIST_PODS) -> asyncio.Task[Review]:
    """Ask as an own task, as every request of Envoy is one."""
    return asyncio.create_task(_asked(counter.cache, subject, asked))


async def _asked(cache: CachedAuthorizer, subject: Subject, asked: Attributes) -> Review:
    answer = cache.review(subject, asked)
    return answer if isinstance(answer, Review) else await answer


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def asked_again(counter: Counter) -> asyncio.Task[Review]:
    """Ask, and be allowed so late after an event that it is asked again."""
    asked = ask(counter)
    await settle()
    counter.generations.raise_for(TEAM_A)
    counter.clock.now += 2
    counter.desk.answer(True)
    await settle()
    return asked


async def test_a_thousand_identical_questions_are_one_review() -> None:
    """On a cold cache a burst of the same question reaches the API server once, and all are answered."""
    counter = Counter()
    asked = [ask(counter) for _ in range(1000)]
    await settle()
    counter.desk.answer(True)
    assert all(review.allowed for review in await asyncio.gather(*asked))
    assert len(counter.desk.asked) == 1
    assert (counter.cache.counts.misses, counter.cache.counts.joined) == (1, 999)


async def test_a_hit_is_a_review_and_no_awaitable() -> None:
    """A kept answer comes back at once, and is counted."""
    counter = Counter()
    await counter.know(True)
    review = counter.cache.review(ANN, LIST_PODS)
    assert isinstance(review, Review)
    assert review.cached is True
    assert counter.cache.counts.hits == 1


async def test_different_questions_are_different_reviews() -> None:
    """Bob does not wait for Ann's answer, nor does he get it."""
    counter = Counter()
    anns, bobs = ask(counter), ask(counter, Subject.authenticated("bob"))
    await settle()
    counter.desk.answer(True)
    counter.desk.answer(False)
    assert [(await anns).allowed, (await bobs).allowed] == [True, False]


async def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    """The first caller may go, and so may any other: the review belongs to none of them."""
    counter = Counter()
    first, second, third = (ask(counter) for _ in range(3))
    await settle()
    first.cancel()
    third.cancel()
    await settle()
    counter.desk.answer(True)
    assert (await second).allowed
    assert first.cancelled()
    assert third.cancelled()
    assert len(counter.desk.asked) == 1


async def test_a_review_whose_callers_have_all_gone_is_still_kept() -> None:
    """An answer that was paid for serves the next caller."""
    counter = Counter()
    gone = ask(counter)
    await settle()
    gone.cancel()
    await settle()
    counter.desk.answer(True)
    await settle()
    assert counter.kept() is True


async def test_an_error_reaches_every_caller_and_is_not_kept() -> None:
    """All who wait learn of the failure; the next one asks again."""
    counter = Counter()
    asked = [ask(counter) for _ in range(3)]
    await settle()
    counter.desk.fail()
    assert await asyncio.gather(*asked, return_exceptions=True) == [UNREACHABLE] * 3
    await counter.know(True)


async def test_an_unexpected_error_reaches_the_callers_as_it_is() -> None:
    """A bug in the inner authorizer is not dressed up as an outage, and is no answer."""
    counter = Counter(max_stale_seconds=600)
    await counter.know(True)
    counter.clock.now += 60
    asked = ask(counter)
    await settle()
    counter.desk.fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await asked


async def test_an_error_that_nobody_waits_for_is_no_warning() -> None:
    """An awaitable that is dropped, and a caller that was cancelled, leave no complaint behind."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    counter = Counter()
    counter.cache.review(ANN, LIST_PODS)
    gone = ask(counter)
    await settle()
    gone.cancel()
    await settle()
    counter.desk.fail()
    await settle()
    gc.collect()
    assert complaints == []


async def test_nobody_joins_a_review_from_before_an_event() -> None:
    """Who asks after the event gets an answer of after the event; who asked before may have the older one."""
    counter = Counter()
    before = ask(counter)
    await settle()
    counter.generations.raise_for(TEAM_A)
    after, later = ask(counter), ask(counter)
    await settle()
    assert len(counter.desk.asked) == 2
    counter.desk.answer(True)
    await settle()
    assert counter.kept() is None
    assert not after.done()
    counter.desk.answer(False)
    assert [(await before).allowed, (await after).allowed, (await later).allowed] == [True, False, False]
    assert counter.kept() is False


@pytest.mark.parametrize(("after", "reviews"), [(0.9, 1), (1.0, 2), (1.4, 2)])
async def test_nobody_joins_a_review_from_a_settling_time_that_is_over(after: float, reviews: int) -> None:
    """Sent in the settling time after an event, a review may come from a server that lagged behind it."""
    counter = Counter(settling_seconds=1)
    counter.generations.raise_for([("User", "ann")])
    early = ask(counter)
    await settle()
    counter.clock.now += after
    late = ask(counter)
    await settle()
    assert len(counter.desk.asked) == reviews
    for _ in range(reviews):
        counter.desk.answer(True)
    assert (await late).allowed
    if reviews == 2:
        await settle()
        assert not early.done()
        counter.desk.answer(True)
    assert (await early).allowed


@pytest.mark.parametrize("allowed", [True, False])
async def test_an_allow_that_comes_too_late_is_asked_for_again(allowed: bool) -> None:
    """Whoever waits, or comes, gets the answer to a review sent when everybody knew of the event."""
    counter = Counter(settling_seconds=1)
    counter.generations.raise_for(TEAM_A)
    counter.clock.now += 0.999
    early = ask(counter)
    await settle()
    counter.clock.now += 0.002
    counter.desk.answer(True)
    await settle()
    assert not early.done()
    late = ask(counter)
    await settle()
    assert len(counter.desk.asked) == 2
    counter.desk.answer(allowed)
    assert [(await early).allowed, (await late).allowed] == [allowed, allowed]
    assert counter.kept() is allowed


async def test_an_allow_that_comes_too_late_twice_is_none() -> None:
    """Rights that change all the time hold nobody for ever."""
    counter = Counter(settling_seconds=1)
    asked = ask(counter)
    for _ in range(2):
        await settle()
        counter.generations.raise_for(TEAM_A)
        counter.clock.now += 2
        counter.desk.answer(True)
    with pytest.raises(Unavailable, match="review_outdated"):
        await asked


async def test_who_asks_again_in_vain_is_told_why() -> None:
    """The second review fails as any other does, and nobody is left waiting when the service stops."""
    counter = Counter(settling_seconds=1)
    asked = await asked_again(counter)
    counter.desk.fail()
    with pytest.raises(Unavailable, match="apiserver_unreachable"):
        await asked
    asked = await asked_again(counter)
    await counter.cache.close()
    with pytest.raises(Unavailable, match="review_cancelled"):
        await asked


async def test_a_denial_that_comes_late_is_still_a_denial() -> None:
    """Only an allow could be one that was revoked meanwhile."""
    counter = Counter(settling_seconds=1)
    early = ask(counter)
    await settle()
    counter.generations.raise_for([("User", "ann")])
    counter.clock.now += 2
    counter.desk.answer(False)
    assert not (await early).allowed


async def test_a_late_answer_from_before_an_event_does_not_replace_a_newer_one() -> None:
    """Answers may come in any order; the one sent before the event is not kept."""
    counter = Counter()
    before = ask(counter)
    await settle()
    counter.generations.raise_for(TEAM_A)
    after = ask(counter)
    await settle()
    counter.desk.answer(False, index=1)
    assert not (await after).allowed
    counter.desk.answer(True)
    assert (await before).allowed
    assert counter.kept() is False


async def test_the_end_of_a_review_from_before_an_event_leaves_the_newer_one_to_join() -> None:
    """When the older review is answered first, callers still share the one under way."""
    counter = Counter()
    older = ask(counter)
    await settle()
    counter.generations.raise_for(TEAM_A)
    newer = ask(counter)
    await settle()
    counter.desk.answer(True)
    await settle()
    third = ask(counter)
    await settle()
    counter.desk.answer(False)
    assert [(await caller).allowed for caller in (older, newer, third)] == [True, False, False]
    assert len(counter.desk.asked) == 2


async def test_an_event_elsewhere_does_not_part_callers() -> None:
    """Callers still share a review when something happened that cannot change it."""
    counter = Counter()
    first = ask(counter)
    await settle()
    counter.generations.raise_for([("Namespace", "team-b")])
    second = ask(counter)
    await settle()
    counter.desk.answer(True)
    await asyncio.gather(first, second)
    assert len(counter.desk.asked) == 1


async def test_ten_thousand_events_cause_no_review_of_their_own() -> None:
    """A bulk apply costs reviews only where someone asks, and one for all who ask between two events."""
    counter = Counter()
    for number in range(10_000):
        counter.generations.raise_for([("Namespace", "team-a"), ("User", f"user-{number}")])
    asked = [ask(counter) for _ in range(100)]
    await settle()
    counter.desk.answer(True)
    await asyncio.gather(*asked)
    assert len(counter.desk.asked) == 1


async def test_ten_thousand_users_leave_nothing_behind() -> None:
    """A burst of distinct users is answered, bounded in memory, and ends with no review under way."""
    counter = Counter(max_entries=1000)
    asked = [ask(counter, Subject.authenticated(f"user-{number}")) for number in range(10_000)]
    await settle()
    while counter.desk.open:
        counter.desk.answer(True, index=-1)
    await asyncio.gather(*asked)
    assert len(counter.cache.kept) <= 1000
    assert counter.cache._flights == {}
    assert counter.cache._tasks == set()


async def test_what_is_answered_at_once_is_not_kept() -> None:
    """An inner authorizer that needs no await answers from its own memory, which is never older than ours."""

    class AtOnce:
        def review(self, subject: Subject, attributes: Attributes) -> Review:
            return Review(attributes, allowed=subject.user == "ann")

    cache = CachedAuthorizer(AtOnce(), ReviewCacheSettings(), Generations())
    assert cache.review(ANN, LIST_PODS) == Review(LIST_PODS, allowed=True)
    assert len(cache.kept) == 0


async def test_coroutines_are_flown_too() -> None:
    """An inner authorizer may be an ordinary coroutine function."""

    class Coroutines:
        async def review(self, subject: Subject, attributes: Attributes) -> Review:
            await asyncio.sleep(0)
            return Review(attributes, allowed=subject.user == "ann")

    cache = CachedAuthorizer(Coroutines(), ReviewCacheSettings(), Generations())
    answers = await asyncio.gather(*(_asked(cache, ANN, LIST_PODS) for _ in range(10)))
    assert all(answer.allowed for answer in answers)
    assert cache.counts.misses == 1


class TestStale:
    """`maxStale`: what serves while reviews get no answer."""

    @pytest.fixture
    async def counter(self) -> Counter:
        counter = Counter(allow_seconds=60, deny_seconds=10, max_stale_seconds=120)
        await counter.know(True)
        await counter.know(False, asked=replace(LIST_PODS, verb="delete"))
        return counter

    async def outage(self, counter: Counter, asked: Attributes = LIST_PODS) -> Review:
        waiting = ask(counter, asked=asked)
        await settle()
        counter.desk.fail()
        return await waiting

    async def test_an_allow_within_its_bound_serves_and_is_counted(self, counter: Counter) -> None:
        """An allow younger than `maxStale` serves while the API server is away."""
        counter.clock.now += 119.999
        review = await self.outage(counter)
        assert (review.allowed, review.cached) == (True, True)
        assert counter.cache.counts.stale == 1

    async def test_each_is_counted(self, counter: Counter) -> None:
        """The count is of all since the start."""
        counter.clock.now += 60
        await self.outage(counter)
        await self.outage(counter)
        assert counter.cache.counts.stale == 2

    async def test_an_allow_beyond_its_bound_does_not(self, counter: Counter) -> None:
        """At the bound the outage is an outage."""
        counter.clock.now += 120
        with pytest.raises(Unavailable):
            await self.outage(counter)
        assert counter.cache.counts.stale == 0

    async def test_a_denial_never_serves(self, counter: Counter) -> None:
        """An old denial says nothing worth repeating."""
        counter.clock.now += 60
        with pytest.raises(Unavailable):
            await self.outage(counter, replace(LIST_PODS, verb="delete"))

    async def test_an_unknown_question_is_an_outage(self, counter: Counter) -> None:
        """Nothing is allowed that was not allowed before."""
        with pytest.raises(Unavailable):
            await self.outage(counter, replace(LIST_PODS, verb="create"))

    async def test_a_revoked_allow_never_serves(self, counter: Counter) -> None:
        """An event that could change the answer ends it for outages too."""
        counter.clock.now += 60
        counter.generations.raise_for(TEAM_A)
        with pytest.raises(Unavailable):
            await self.outage(counter)

    async def test_an_event_during_the_failing_review_counts(self, counter: Counter) -> None:
        """The revocation may come while the review hangs."""
        counter.clock.now += 60
        waiting = ask(counter)
        await settle()
        counter.generations.raise_for(TEAM_A)
        counter.desk.fail()
        with pytest.raises(Unavailable):
            await waiting

    async def test_off_by_default(self) -> None:
        """Unless it is switched on, an expired allow serves nobody."""
        counter = Counter()
        await counter.know(True)
        counter.clock.now += 60
        with pytest.raises(Unavailable):
            await self.outage(counter)

    async def test_a_refusal_at_once_is_an_outage_too(self) -> None:
        """An open circuit refuses without an await; the same rules hold."""

        class Breaking:
            broken = False

            def review(self, subject: Subject, attributes: Attributes) -> Awaitable[Review]:
                if self.broken:
                    raise UNREACHABLE
                answer: asyncio.Future[Review] = asyncio.get_running_loop().create_future()
                answer.set_result(Review(attributes, allowed=subject.user == "ann"))
                return answer

        inner = Breaking()
        cache = CachedAuthorizer(inner, ReviewCacheSettings(allow_seconds=0, max_stale_seconds=60), Generations())
        assert (await _asked(cache, ANN, LIST_PODS)).allowed
        inner.broken = True
        assert (await _asked(cache, ANN, LIST_PODS)).allowed
        with pytest.raises(Unavailable):
            cache.review(Subject.authenticated("bob"), LIST_PODS)


class TestClose:
    """The service stops while reviews are under way."""

    async def test_every_caller_is_answered(self) -> None:
        """All who wait get an outage as their answer, none is left and none is cancelled."""
        counter = Counter()
        asked = [ask(counter) for _ in range(3)] + [ask(counter, asked=replace(LIST_PODS, verb="get"))]
        await settle()
        await counter.cache.close()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(answer) for answer in answers] == [
            "review_cancelled: the service stopped before the review was answered"
        ] * 4

    async def test_a_review_that_has_not_even_begun_is_answered(self) -> None:
        """The close may come before the review's task has run at all."""

        class Slow:
            async def review(self, subject: Subject, attributes: Attributes) -> Review:
                raise AssertionError((subject, attributes))

        cache = CachedAuthorizer(Slow(), ReviewCacheSettings(), Generations())
        waiting = cache.review(ANN, LIST_PODS)
        await cache.close()
        assert not isinstance(waiting, Review)
        with pytest.raises(Unavailable):
            await waiting

    async def test_afterwards_only_kept_answers_serve(self) -> None:
        """Draining requests still hit; no new review is begun."""
        counter = Counter()
        await counter.know(True)
        await counter.cache.close()
        assert counter.cache.review(ANN, LIST_PODS) == Review(LIST_PODS, allowed=True)
        with pytest.raises(Unavailable):
            counter.cache.review(Subject.authenticated("bob"), LIST_PODS)
        assert len(counter.desk.asked) == 1
