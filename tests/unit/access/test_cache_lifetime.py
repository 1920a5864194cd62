"""How long a kept answer serves, by a clock that only the test moves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from extauthz.access.kept import UNIT_BYTES
from extauthz.errors import Unavailable
from extauthz.review import NonResourceAttributes, ResourceAttributes, Review
from extauthz.subject import Subject
from tests.unit.access.desk import ANN, LIST_PODS, Counter

TEAM_A = [("Namespace", "team-a")]


@pytest.mark.parametrize(("allowed", "seconds"), [(True, 60), (False, 10)])
async def test_an_answer_serves_until_its_time_is_over(allowed: bool, seconds: float) -> None:
    """Allows and denials have their own time; at its very end the question is asked anew."""
    counter = Counter(allow_seconds=60, deny_seconds=10)
    await counter.know(allowed)
    counter.clock.now += seconds - 0.001
    assert counter.kept() is allowed
    counter.clock.now += 0.001
    assert counter.kept() is None


async def test_time_counts_from_the_question() -> None:
    """An answer that took long is as old as its question, because that is when it was true at the earliest."""
    counter = Counter(allow_seconds=60)
    waiting = counter.cache.review(ANN, LIST_PODS)
    assert not isinstance(waiting, Review)
    counter.clock.now += 59
    counter.desk.answer(True)
    await waiting
    assert counter.kept() is True
    counter.clock.now += 1
    assert counter.kept() is None


async def test_an_answer_never_outlives_the_credential() -> None:
    """A token that ends in 2 s ends the answer, whatever the allow time."""
    counter = Counter(allow_seconds=300, max_stale_seconds=600)
    brief = replace(ANN, expires=counter.clock.wall() + 2)
    await counter.know(True, brief)
    counter.clock.now += 1.999
    assert counter.kept() is True
    counter.clock.now += 0.001
    assert counter.kept() is None
    waiting = counter.cache.review(ANN, LIST_PODS)
    assert not isinstance(waiting, Review)
    counter.desk.fail()
    with pytest.raises(Unavailable):
        await waiting


async def test_an_expired_credential_leaves_nothing_behind() -> None:
    """An answer for a credential that ended meanwhile is given but does not serve again."""
    counter = Counter()
    await counter.know(True, replace(ANN, expires=counter.clock.wall() - 1))
    assert counter.kept() is None


@pytest.mark.parametrize(
    "other", [Subject.authenticated("bob", ("devs",)), Subject.authenticated("ann"), replace(ANN, uid="2")]
)
async def test_an_answer_serves_nobody_else(other: Subject) -> None:
    """Another user, or the same one without the group, is asked about anew."""
    counter = Counter()
    await counter.know(True)
    assert counter.kept(other) is None


async def test_an_event_ends_an_answer_at_once() -> None:
    """After the RoleBinding event the very next question goes to the API server."""
    counter = Counter()
    await counter.know(True)
    counter.generations.raise_for(TEAM_A)
    assert counter.kept() is None


async def test_a_grant_shows_at_once_too() -> None:
    """A denial ends with the event as an allow does."""
    counter = Counter()
    await counter.know(False)
    counter.generations.raise_for([("User", "ann")])
    assert counter.kept() is None


async def test_an_event_elsewhere_leaves_an_answer_alone() -> None:
    """Other namespaces' and other users' events cost this answer nothing, however many there are."""
    counter = Counter()
    await counter.know(True)
    for number in range(100):
        counter.generations.raise_for([("Namespace", f"team-b{number}"), ("User", "bob")])
        assert counter.kept() is True
    counter.generations.raise_for(TEAM_A)
    assert counter.kept() is None


async def test_an_answer_from_the_settling_time_lives_no_longer() -> None:
    """A review sent shortly after an event may have been answered by a lagging server."""
    counter = Counter(settling_seconds=1, max_stale_seconds=600)
    counter.generations.raise_for(TEAM_A)
    counter.clock.now += 0.75
    await counter.know(True)
    counter.clock.now += 0.125
    assert counter.kept() is True
    counter.clock.now += 0.125
    assert counter.kept() is None
    waiting = counter.cache.review(ANN, LIST_PODS)
    assert not isinstance(waiting, Review)
    counter.desk.fail()
    with pytest.raises(Unavailable):
        await waiting


async def test_an_answer_sent_when_all_is_settled_lives_in_full() -> None:
    """Once the settling time is over, answers have their whole time again."""
    counter = Counter(settling_seconds=1, allow_seconds=60)
    counter.generations.raise_all()
    counter.clock.now += 1
    await counter.know(True)
    counter.clock.now += 59
    assert counter.kept() is True


async def test_settling_elsewhere_does_not_shorten_an_answer() -> None:
    """Only events that could change the answer make it wait."""
    counter = Counter()
    counter.generations.raise_for([("Namespace", "team-b")])
    await counter.know(True)
    counter.clock.now += 30
    assert counter.kept() is True


async def test_without_a_watch_no_old_answer_serves() -> None:
    """While the watch is down answers serve `ttlWithoutWatch` at the most, counted from their question."""
    counter = Counter(ttl_without_watch_seconds=10)
    await counter.know(True)
    counter.clock.now += 9
    counter.generations.watched = False
    assert counter.kept() is True
    counter.clock.now += 1
    assert counter.kept() is None
    await counter.know(True)
    counter.clock.now += 9.999
    assert counter.kept() is True
    counter.clock.now += 0.001
    assert counter.kept() is None


async def test_a_watch_that_has_caught_up_revives_what_nothing_has_changed() -> None:
    """A gap whose events were all seen afterwards costs only the answers that they change."""
    counter = Counter(allow_seconds=60, ttl_without_watch_seconds=10)
    elsewhere = replace(LIST_PODS, namespace="team-b")
    await counter.know(True)
    await counter.know(True, asked=elsewhere)
    counter.generations.watched = False
    counter.clock.now += 20
    assert counter.kept() is None
    counter.generations.raise_for(TEAM_A)
    counter.generations.watched = True
    assert counter.kept() is None
    assert counter.kept(asked=elsewhere) is True


async def test_an_evaluation_error_is_not_kept_and_ends_the_older_answer() -> None:
    """An answer that the server itself doubts serves once, and no older allow comes back after it."""
    counter = Counter(max_stale_seconds=600)
    await counter.know(True)
    counter.clock.now += 60
    await counter.know(False, evaluation_error="webhook timed out")
    assert counter.kept() is None
    waiting = counter.cache.review(ANN, LIST_PODS)
    assert not isinstance(waiting, Review)
    counter.desk.fail()
    with pytest.raises(Unavailable):
        await waiting


@pytest.mark.parametrize(("size", "kept"), [(9_999, True), (10_000, None)])
@pytest.mark.parametrize("multibyte", [False, True])
async def test_huge_questions_are_answered_but_not_kept(size: int, kept: bool | None, multibyte: bool) -> None:
    """Attributes of 10,000 bytes and more are evaluated and never stored, however the bytes are made up."""
    counter = Counter()
    asked = NonResourceAttributes("get", "é" * 500 + "a" * (size - 1003) if multibyte else "a" * (size - 3))
    await counter.know(True, asked=asked)
    assert counter.kept(asked=asked) is kept
    assert len(counter.desk.asked) == 1


async def test_answers_are_bounded_by_number_and_the_ones_in_use_stay() -> None:
    """A flood of distinct names evicts the idle answers, not the one that is asked for in between."""
    counter = Counter(max_entries=50)
    await counter.know(True)
    for number in range(500):
        await counter.know(False, asked=replace(LIST_PODS, name=f"guess-{number}"))
        assert counter.kept() is True
        assert len(counter.cache.kept) <= 50
    assert counter.kept(asked=replace(LIST_PODS, name="guess-0")) is None


async def test_answers_are_bounded_by_bytes() -> None:
    """Large answers and large group lists take more of the room, so that memory stays bounded."""
    counter = Counter(max_entries=100_000, max_bytes=100_000)
    member_of_many = Subject.authenticated("ann", tuple(f"group-{number}" for number in range(100)))
    for number in range(50):
        await counter.know(True, member_of_many, ResourceAttributes("get", name=str(number)))
    assert 5 <= len(counter.cache.kept) <= 15


@pytest.mark.parametrize("none", [{"max_entries": 0}, {"max_bytes": 0}, {"max_bytes": 100}])
async def test_a_cache_without_room_still_answers(none: dict[str, int]) -> None:
    """With no room nothing is kept, and every question is asked."""
    counter = Counter(**none)
    await counter.know(True)
    assert counter.kept() is None
    assert len(counter.cache.kept) == 0


async def test_what_is_let_go_is_no_ground_any_more() -> None:
    """Whatever was remembered with it is asked again: pushed out or superseded."""
    counter = Counter(max_entries=1)
    await counter.know(True)
    review = counter.cache.review(ANN, LIST_PODS)
    assert isinstance(review, Review)
    assert review.ground
    assert review.ground.holds() is True
    await counter.know(True, asked=replace(LIST_PODS, name="a"))
    assert review.ground.holds() is False


async def test_an_answer_that_just_fits_is_kept() -> None:
    """The bound is what may be taken."""
    counter = Counter()
    await counter.know(True)
    size = counter.cache.kept.bytes
    for room, kept in ((size, True), (size - UNIT_BYTES, None)):
        narrow = Counter(max_bytes=room)
        await narrow.know(True)
        assert narrow.kept() is kept


async def test_what_is_let_go_takes_no_memory_any_more() -> None:
    """The bytes are those of the answers that are kept: none at first, and one answer's when there is room for one."""
    counter = Counter(max_entries=1)
    assert counter.cache.kept.bytes == 0
    await counter.know(True, asked=replace(LIST_PODS, name="a"))
    one = counter.cache.kept.bytes
    assert one > 0
    await counter.know(True, asked=replace(LIST_PODS, name="b"))
    assert counter.cache.kept.bytes == one


async def test_extras_count_towards_the_bytes() -> None:
    """Large extras of a credential cannot be used to go past the memory bound."""
    counter = Counter(max_bytes=20_000)
    await counter.know(True, replace(ANN, extra=(("scopes", ("x" * 30_000,)),)))
    assert len(counter.cache.kept) == 0
