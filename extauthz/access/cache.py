"""Reviews that are answered from memory where that is safe, and asked once where it is not.

Promises:

- A hit is plain calls: no coroutine, task or lock.
- Concurrent identical questions are one review. It belongs to none of its callers, so a
  cancelled caller leaves the others alone.
- Nobody is given an answer to a review that was sent before an event which could change
  it, unless they themselves asked before that event. Nor does anybody join a review from
  the settling time after an event once that is over: a lagging server may have answered.
  An allow that comes too late by this is asked for again, once.
- Errors are never kept. Everyone who waits is answered, also when the service stops.

How long an answer may serve is decided in `kept`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from extauthz.access.generations import Generations
from extauthz.access.kept import KeptReviews, Question
from extauthz.access.review_key import review_key
from extauthz.errors import Unavailable
from extauthz.review import Attributes, Review
from extauthz.settings import ReviewCacheSettings
from extauthz.subject import Subject


class Reviewer(Protocol):
    """Whoever answers reviews: at once, or when awaited. Raises Unavailable."""

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]: ...


@dataclass(slots=True)
class CacheCounts:
    """What has happened since the start: each call is a hit, joins a review under way, or is a miss."""

    hits: int = 0
    joined: int = 0
    misses: int = 0
    stale: int = 0
    """Misses without an answer that an older allow served (`maxStale`)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Flight:
    """One review under way, and the answer its callers wait for."""

    question: Question
    answer: asyncio.Future[Review]
    again: bool = False
    """Whether its answer came too late once already."""


class CachedAuthorizer:
    """Remembers what another authorizer answers.

    `clock` is monotonic and `wall` is Unix time, both in seconds.
    """

    def __init__(
        self,
        inner: Reviewer,
        settings: ReviewCacheSettings,
        generations: Generations,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.counts = CacheCounts()
        self.kept = KeptReviews(settings, generations, clock=clock, wall=wall)
        self._inner = inner
        self._generations = generations
        self._clock = clock
        self._flights: dict[Hashable, _Flight] = {}
        self._tasks: set[asyncio.Future[Review]] = set()
        self._closed = False

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        """Return a kept answer, or an awaitable of one. Raises Unavailable, at once or when awaited."""
        key = review_key(subject, attributes)
        review = self.kept.get(key, subject, attributes)
        if review is not None:
            self.counts.hits += 1
            return review
        flight = self._flights.get(key)
        if flight and self.kept.may_join(flight.question):
            self.counts.joined += 1
            return _wait_for(flight)
        self.counts.misses += 1
        return self._ask(Question(key, subject, attributes, self._clock(), self._generations.epoch))

    async def close(self) -> None:
        """Answer everyone who waits with Unavailable, and everyone who comes without a kept answer."""
        self._closed = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _ask(self, question: Question) -> Review | Awaitable[Review]:
        """Ask anew. What is answered at once comes from memory already and is not kept."""
        try:
            if self._closed:
                raise _shutting_down()
            answer = self._inner.review(question.subject, question.attributes)
        except Unavailable:
            if stale := self._stale(question):
                return stale
            raise
        return answer if isinstance(answer, Review) else self._launch(question, answer)

    def _launch(self, question: Question, answer: Awaitable[Review]) -> Awaitable[Review]:
        flight = _Flight(question, asyncio.get_running_loop().create_future())
        flight.answer.add_done_callback(_retrieve)
        self._flights[question.key] = flight
        self._start(flight, answer)
        return _wait_for(flight)

    def _start(self, flight: _Flight, answer: Awaitable[Review]) -> None:
        task = asyncio.ensure_future(answer)
        task.add_done_callback(partial(self._land, flight))
        self._tasks.add(task)

    def _land(self, flight: _Flight, task: asyncio.Future[Review]) -> None:
        """Hand what a review came to to those who wait for it."""
        question = flight.question
        self._tasks.discard(task)
        error = _shutting_down() if task.cancelled() else task.exception()
        if error is None and task.result().allowed and self.kept.is_outdated(question):
            if not flight.again and not self._closed:
                self._ask_again(flight)
                return
            error = Unavailable("review_outdated", "rights changed while the review was under way")
        if self._flights.get(question.key) is flight:
            del self._flights[question.key]
        if error is None:
            review = task.result()
            self.kept.keep(question, review)
            flight.answer.set_result(review)
        elif isinstance(error, Unavailable) and (stale := self._stale(question)):
            flight.answer.set_result(stale)
        else:
            flight.answer.set_exception(error)

    def _ask_again(self, flight: _Flight) -> None:
        """Ask for those who wait what has become of a right that changed meanwhile."""
        question = dataclasses.replace(flight.question, sent=self._clock(), epoch=self._generations.epoch)
        anew = dataclasses.replace(flight, question=question, again=True)
        if self._flights.get(question.key) is flight:
            self._flights[question.key] = anew
        self._start(anew, _awaited(self._inner, question))

    def _stale(self, question: Question) -> Review | None:
        stale = self.kept.stale(question.key, question.subject, question.attributes)
        self.counts.stale += stale is not None
        return stale


async def _awaited(inner: Reviewer, question: Question) -> Review:
    answer = inner.review(question.subject, question.attributes)
    return answer if isinstance(answer, Review) else await answer


def _wait_for(flight: _Flight) -> Awaitable[Review]:
    """Return a caller's own wait: cancelling it, or never looking at it, is nobody else's matter."""
    waiter = asyncio.shield(flight.answer)
    waiter.add_done_callback(_retrieve)
    return waiter


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark an error as seen, so that one which nobody waits for any more is no warning."""
    if not future.cancelled():
        future.exception()


def _shutting_down() -> Unavailable:
    return Unavailable("review_cancelled", "the service stopped before the review was answered")
