"""What was decided in each of the last intervals, from the counts that the meter keeps anyway."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import time

from extauthz.decision import Outcome, Reason
from extauthz.observe.meter import BOUNDS, Meter

INTERVAL_SECONDS = 5.0
MAX_INTERVALS = 120


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval: when it ended (Unix time), decisions by what became of them, and by how long they took."""

    at: float
    allowed: int
    would_refuse: int
    refused: int
    failed: int
    buckets: tuple[int, ...]
    """As the meter's histograms have them: one for each of `BOUNDS`, and one for what took longer."""

    @property
    def total(self) -> int:
        """All decisions of the interval."""
        return self.allowed + self.would_refuse + self.refused + self.failed


class History:
    """The last intervals. `clock` is Unix time in seconds."""

    def __init__(self, meter: Meter, *, clock: Callable[[], float] = time) -> None:
        self._meter = meter
        self._clock = clock
        self._last = self._totals()
        self._intervals = deque([self._present()] * (MAX_INTERVALS - 1), MAX_INTERVALS - 1)

    async def run(self) -> None:
        """Keep an interval every INTERVAL_SECONDS, for ever."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            self.keep()

    def keep(self) -> None:
        """End the present interval."""
        self._intervals.append(self._present())
        self._last = self._totals()

    def intervals(self) -> Sequence[Interval]:
        """Return MAX_INTERVALS intervals, oldest first, the present one last; those before the start are empty."""
        return [*self._intervals, self._present()]

    def _present(self) -> Interval:
        totals, last = self._totals(), self._last
        return Interval(
            self._clock(),
            totals.allowed - last.allowed,
            totals.would_refuse - last.would_refuse,
            totals.refused - last.refused,
            totals.failed - last.failed,
            tuple(now - before for now, before in zip(totals.buckets, last.buckets, strict=True)),
        )

    def _totals(self) -> Interval:
        allowed = would_refuse = refused = failed = 0
        for (outcome, reason, _), count in self._meter.by_text().items():
            if outcome == Outcome.ERROR:
                failed += count
            elif outcome != Outcome.ALLOW:
                refused += count
            elif reason == Reason.SHADOW:
                would_refuse += count
            else:
                allowed += count
        return Interval(self._clock(), allowed, would_refuse, refused, failed, buckets_of(self._meter))


def buckets_of(meter: Meter) -> tuple[int, ...]:
    """Return the counts of both histograms together."""
    return tuple(map(sum, zip(meter.from_memory.buckets, meter.after_asking.buckets, strict=True)))


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Return the bound in seconds that `share` of the durations keep: infinite past the last, None without any."""
    total, seen = sum(buckets), 0
    for count, bound in zip(buckets, (*BOUNDS, float("inf")), strict=True):
        seen += count
        if total and seen >= total * share:
            return bound
    return None
