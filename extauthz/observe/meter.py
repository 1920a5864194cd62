"""Counting decisions where they are made, in plain dictionaries and lists.

Promises: a decision costs well below a microsecond more, and no name that a request brings
can become a label: reasons are codes of this package and rules are the policy's, and their
number is bounded anyway.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Protocol

from extauthz.decision import Decision
from extauthz.errors import ExtauthzError
from extauthz.gateway import Gateway
from extauthz.request import Request

BOUNDS = (
    *(0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
"""Upper bounds of the histogram's buckets, in seconds: most decisions take a few dozen microseconds."""
MAX_SERIES = 2000
OTHER = "other"

Counted = tuple[str, str, str]
"""Outcome, reason code and the name of the rule; an empty one where no rule decided."""


@dataclass(slots=True)
class Histogram:
    """How long something took; the last bucket has no bound."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


@dataclass(slots=True)
class Meter:
    """What has been decided since the start."""

    decisions: dict[Counted, int] = field(default_factory=dict)
    from_memory: Histogram = field(default_factory=Histogram)
    """Decisions for which all was known."""
    after_asking: Histogram = field(default_factory=Histogram)
    """Decisions that waited for keys, reviews or lookups."""
    repeated: int = 0
    """Allows that were given again without being decided anew; no histogram holds them."""
    abandoned: int = 0
    """Checks that Envoy gave up on before they were answered."""

    def count(self, decision: Decision) -> None:
        """Count one decision."""
        rule = decision.rule
        key = (decision.outcome, decision.reason, "" if rule is None else rule.name)
        if key not in self.decisions and len(self.decisions) >= MAX_SERIES:
            key = (decision.outcome, OTHER, OTHER)
        self.decisions[key] = self.decisions.get(key, 0) + 1

    def by_text(self) -> Mapping[Counted, int]:
        """Return the decisions by the text of their codes: a code may come as an enum and as plain text."""
        counts: Counter[Counted] = Counter()
        for (outcome, reason, rule), count in self.decisions.items():
            counts[str(outcome), str(reason), rule] += count
        return counts


class Observer(Protocol):
    """Is told of decisions. Must not raise."""

    def observe(self, request: Request | None, decision: Decision, seconds: float) -> None:
        """Take note of a decision; `request` is None where none could be read."""
        ...

    def observe_repeated(self, decision: Decision, request_id: str, request: Callable[[], Request]) -> None:
        """Take note of an allow that was given again; `request` reads its request."""
        ...


class MeteredGateway(Gateway):
    """A gateway that counts what it decides, and tells an observer of it."""

    observer: Observer | None = None

    @cached_property
    def meter(self) -> Meter:
        """The counts since the start."""
        return Meter()

    def decide(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide a request, as `Gateway.decide` does."""
        began = perf_counter()
        answer = super().decide(request)
        if isinstance(answer, Decision):
            took = perf_counter() - began
            self.meter.from_memory.observe(took)
            self.meter.count(answer)
            if self.observer is not None:
                self.observer.observe(request, answer, took)
            return answer
        return self._wait(request, answer, began)

    def repeat(self, decision: Decision, request_id: str, request: Callable[[], Request]) -> bool:
        """Give an allow again, as `Gateway.repeat` does; that takes no time worth measuring."""
        if not Gateway.repeat(self, decision, request_id, request):  # `super()` would take 0.1 µs more
            return False
        self.meter.repeated += 1
        self.meter.count(decision)
        if self.observer is not None:
            self.observer.observe_repeated(decision, request_id, request)
        return True

    def refuse(self, error: ExtauthzError) -> Decision:
        """Decide as `Gateway.refuse` does; how long that took says nothing and is left out."""
        decision = super().refuse(error)
        self.meter.count(decision)
        if self.observer is not None:
            self.observer.observe(None, decision, 0.0)
        return decision

    async def _wait(self, request: Request, answer: Awaitable[Decision], began: float) -> Decision:
        try:
            decision = await answer
        except asyncio.CancelledError:
            self.meter.abandoned += 1
            raise
        took = perf_counter() - began
        self.meter.after_asking.observe(took)
        self.meter.count(decision)
        if self.observer is not None:
            self.observer.observe(request, decision, took)
        return decision
