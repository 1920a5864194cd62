"""The circuit breaker, moment by moment."""

from __future__ import annotations

import pytest

from extauthz.access.kubernetes.breaker import Breaker
from extauthz.errors import Unavailable


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, open_seconds=10, clock=clock)


def fail(breaker: Breaker) -> None:
    """Make one attempt that fails."""
    with pytest.raises(Unavailable, match="failed"), breaker.attempt():
        raise Unavailable("failed", "")


def state(breaker: Breaker) -> str:
    return str(breaker.state)


def test_opens_at_the_limit(breaker: Breaker) -> None:
    """Failures in a row open the circuit, which then refuses and tells when to come back."""
    for _ in range(3):
        assert state(breaker) == "closed"
        fail(breaker)
    assert state(breaker) == "open"
    with pytest.raises(Unavailable) as refused, breaker.attempt():
        pass
    assert (refused.value.reason, refused.value.retry_after) == ("authorizer_unavailable", 10)


def test_a_refusal_counts_down(breaker: Breaker, clock: Clock) -> None:
    """The seconds to come back in are those that are left, rounded up."""
    clock.now = 100
    for _ in range(3):
        fail(breaker)
    clock.now = 106.5
    with pytest.raises(Unavailable) as refused:
        breaker.check()
    assert refused.value.retry_after == 4


def test_success_forgets_failures(breaker: Breaker) -> None:
    """Only failures in a row count."""
    for _ in range(5):
        fail(breaker)
        fail(breaker)
        with breaker.attempt():
            pass
    assert state(breaker) == "closed"


def test_other_errors_are_no_failures(breaker: Breaker) -> None:
    """A cancelled attempt proves nothing about the server."""
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt), breaker.attempt():
            raise KeyboardInterrupt
    assert state(breaker) == "closed"


def test_one_probe_at_a_time(breaker: Breaker, clock: Clock) -> None:
    """After the pause one attempt passes, others are refused meanwhile, and its success closes the circuit."""
    for _ in range(3):
        fail(breaker)
    clock.now = 10
    assert state(breaker) == "half_open"
    with breaker.attempt():
        assert state(breaker) == "open"
        with pytest.raises(Unavailable, match="failing"):
            breaker.check()
    assert state(breaker) == "closed"


def test_failed_probe_opens_anew(breaker: Breaker, clock: Clock) -> None:
    """A probe that fails starts the pause from the beginning."""
    for _ in range(3):
        fail(breaker)
    clock.now = 10
    fail(breaker)
    clock.now = 19
    assert state(breaker) == "open"
    clock.now = 20
    assert state(breaker) == "half_open"


def test_abandoned_probe_makes_room(breaker: Breaker, clock: Clock) -> None:
    """A probe that was cancelled lets the next one through at once."""
    for _ in range(3):
        fail(breaker)
    clock.now = 10
    with pytest.raises(KeyboardInterrupt), breaker.attempt():
        raise KeyboardInterrupt
    assert state(breaker) == "half_open"


def test_late_failures_do_not_prolong_the_pause(breaker: Breaker, clock: Clock) -> None:
    """Attempts that began before the circuit opened may fail later without opening it anew."""
    late = breaker.attempt()
    late.__enter__()
    for _ in range(3):
        fail(breaker)
    clock.now = 9
    error = Unavailable("late", "")
    assert not late.__exit__(Unavailable, error, None)
    clock.now = 10
    assert state(breaker) == "half_open"


def test_it_tells_when_it_opens_and_when_it_closes(clock: Clock) -> None:
    """Each change is told once, and a probe that fails is none."""
    told: list[bool] = []
    breaker = Breaker(failures=3, open_seconds=10, clock=clock, tell=told.append)
    for _ in range(3):
        assert told == []
        fail(breaker)
    assert told == [False]
    clock.now = 10
    fail(breaker)
    assert told == [False]
    clock.now = 20
    for _ in range(2):
        with breaker.attempt():
            pass
        assert told == [False, True]


def test_it_tells_that_it_closes_when_the_first_probe_succeeds(clock: Clock) -> None:
    """Else the watch would not be believed again after a short outage."""
    told: list[bool] = []
    breaker = Breaker(failures=3, open_seconds=10, clock=clock, tell=told.append)
    for _ in range(3):
        fail(breaker)
    clock.now = 10
    with breaker.attempt():
        pass
    assert told == [False, True]
