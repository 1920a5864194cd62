"""What was decided in each of the last intervals."""

from __future__ import annotations

import asyncio

import pytest

from extauthz.decision import Decision, Outcome, Reason
from extauthz.observe import history
from extauthz.observe.history import MAX_INTERVALS, History, quantile
from extauthz.observe.meter import BOUNDS, Meter

SECOND = len(BOUNDS) - 2
"""The bucket of what takes at most a second."""


def count(meter: Meter, outcome: Outcome, reason: str, seconds: float = 1.0) -> None:
    """Count a decision."""
    meter.count(Decision(outcome, 200, reason, ""))
    meter.from_memory.observe(seconds)


def test_each_interval_has_its_own_counts() -> None:
    """The present one is shown as far as it has come."""
    meter = Meter()
    kept = History(meter, clock=lambda: 7.0)
    count(meter, Outcome.ALLOW, Reason.ALLOWED)
    count(meter, Outcome.ALLOW, Reason.SHADOW)
    kept.keep()
    for outcome in (Outcome.DENY, Outcome.UNAUTHENTICATED, Outcome.ERROR):
        count(meter, outcome, "why")
    *before, first, present = kept.intervals()
    assert (first.allowed, first.would_refuse, first.refused, first.failed) == (1, 1, 0, 0)
    assert (present.allowed, present.would_refuse, present.refused, present.failed) == (0, 0, 2, 1)
    assert (first.total, present.total, first.at) == (2, 3, 7.0)
    assert (first.buckets[SECOND], present.buckets[SECOND]) == (2, 3)
    assert len(before) == MAX_INTERVALS - 2
    assert not any(interval.total for interval in before)


def test_old_intervals_are_forgotten() -> None:
    """Memory is bounded."""
    meter = Meter()
    kept = History(meter)
    count(meter, Outcome.ALLOW, Reason.ALLOWED)
    for _ in range(MAX_INTERVALS):
        kept.keep()
    assert len(kept.intervals()) == MAX_INTERVALS
    assert sum(interval.total for interval in kept.intervals()) == 0


async def test_intervals_are_kept_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, until it is cancelled."""
    monkeypatch.setattr(history, "INTERVAL_SECONDS", 0.001)
    kept = asyncio.Event()

    def clock() -> float:
        kept.set()
        return 0.0

    running = asyncio.create_task(History(Meter(), clock=clock).run())
    for _ in range(2):
        kept.clear()
        await kept.wait()
    running.cancel()


def test_quantiles() -> None:
    """The bound that so many durations keep; infinite where they keep none, nothing where there are none."""
    buckets = [0] * (len(BOUNDS) + 1)
    assert quantile(buckets, 0.5) is None
    buckets[2], buckets[5] = 99, 1
    assert (quantile(buckets, 0.5), quantile(buckets, 0.99)) == (BOUNDS[2], BOUNDS[2])
    assert quantile(buckets, 0.995) == BOUNDS[5]
    buckets[-1] = 100
    assert quantile(buckets, 0.99) == float("inf")
