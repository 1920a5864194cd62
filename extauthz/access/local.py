"""The authorizer `rbac-watch`: the embedded evaluator over what the RBAC watch sees.

For clusters where RBAC is the only authorizer: nothing is asked, so nothing can be stale
longer than the watch is late. Promises: an answer of the evaluator is given only while
every resource is synced, every object could be read, and no real review has ever differed;
else the question goes to the fallback. A sample of the answers is compared with real
reviews in the background. The first difference that is still there after the settling
time, with nothing changed meanwhile, ends local evaluation until the next start: what
caused it, another authorizer or a bug of ours, may not show in the next samples.

What the watch tells of two resources may arrive in another order than it was written, as
it may in kube-apiserver's own informers.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from extauthz.access.cache import Reviewer
from extauthz.access.generations import Generations
from extauthz.access.rbac import RbacAuthorizer, RbacStore
from extauthz.access.watch.resources import Manifest
from extauthz.errors import ExtauthzError
from extauthz.review import Attributes, Review
from extauthz.subject import Subject

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LocalCounts:
    """What has happened since the start."""

    local: int = 0
    fallback: int = 0
    verified: int = 0
    undecided: int = 0
    """Comparisons that an outage or a change in between left without a result."""
    differences: int = 0


class LocalAuthorizer:
    """Answers from a store that it fills itself: hand it to the watch as its sink.

    `fallback` answers when the store cannot; `real` is asked for comparison and must not
    be a cache. `chance` says which share of the answers to compare: it returns 0 to 1, and
    an answer is compared where that is below `sample`.
    """

    def __init__(
        self,
        generations: Generations,
        *,
        fallback: Reviewer,
        real: Reviewer,
        sample: float,
        settling_seconds: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.counts = LocalCounts()
        self._store = RbacStore()
        self._evaluator = RbacAuthorizer(self._store)
        self._generations = generations
        self._fallback = fallback
        self._real = real
        self._sample = sample
        self._settling_seconds = settling_seconds
        self._chance = chance
        self._distrust = ""
        self._comparison: asyncio.Task[None] | None = None

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        """Answer from memory where that is safe, else as the fallback does."""
        if self._distrust or not self._generations.watched:
            self.counts.fallback += 1
            return self._fallback.review(subject, attributes)
        self.counts.local += 1
        if self._chance() < self._sample and self._comparison is None:
            self._comparison = asyncio.create_task(self._compare(subject, attributes))
        return self._evaluator.review(subject, attributes)

    @property
    def trusted(self) -> bool:
        """Whether nothing has been found that speaks against local answers."""
        return not self._distrust

    def problems(self) -> list[str]:
        """Say why reviews are asked instead of evaluated here."""
        return [f"local RBAC evaluation is off: {self._distrust}"] if self._distrust else []

    def apply(self, data: Manifest) -> None:
        """Take an object from the watch."""
        try:
            self._store.apply(data)
        except ValueError as error:  # what a newer API server stores, we may not understand
            self._give_up(f"{data['kind']} {data['metadata']['name']!r} could not be read: {error}")

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Forget an object that the watch no longer sees."""
        self._store.delete(kind, namespace, name)

    async def close(self) -> None:
        """End a comparison under way."""
        if self._comparison:
            self._comparison.cancel()
            await asyncio.gather(self._comparison, return_exceptions=True)

    async def _compare(self, subject: Subject, attributes: Attributes) -> None:
        epoch = self._generations.epoch
        try:
            if await self._agree(subject, attributes):
                self.counts.verified += 1
                return
            await asyncio.sleep(self._settling_seconds)  # either side may be late: give both the time to settle
            agree = await self._agree(subject, attributes)
            if agree or epoch != self._generations.epoch:
                self.counts.undecided += 1
            else:
                self.counts.differences += 1
                self._give_up(f"a real review differs for {subject.user!r}: {attributes}")
        except ExtauthzError:
            self.counts.undecided += 1
        finally:
            self._comparison = None

    async def _agree(self, subject: Subject, attributes: Attributes) -> bool:
        answer = self._real.review(subject, attributes)
        real = answer if isinstance(answer, Review) else await answer
        return real.allowed == self._evaluator.review(subject, attributes).allowed

    def _give_up(self, why: str) -> None:
        if not self._distrust:
            self._distrust = why
            _log.error("reviews are asked from now on, local RBAC evaluation is off: %s", why)
