"""A clock and an authorizer in the test's hands, for everything that is about time and order."""

from __future__ import annotations

import asyncio
from typing import Any

from extauthz.access.cache import CachedAuthorizer
from extauthz.access.generations import Generations
from extauthz.access.review_key import review_key
from extauthz.errors import Unavailable
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.settings import ReviewCacheSettings
from extauthz.subject import Subject

ANN = Subject.authenticated("ann", ("devs",))
LIST_PODS = ResourceAttributes("list", "", "v1", "pods", "", "team-a", "")
UNREACHABLE = Unavailable("apiserver_unreachable", "the connection to the API server failed")


class Clock:
    """Seconds that pass only when a test says so; `wall` is a Unix time that runs alike."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000 + self.now


class Desk:
    """An authorizer whose answers lie open until the test gives them, in any order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Subject, Attributes]] = []
        self.open: list[tuple[Attributes, asyncio.Future[Review]]] = []

    def review(self, subject: Subject, attributes: Attributes) -> asyncio.Future[Review]:
        self.asked.append((subject, attributes))
        future: asyncio.Future[Review] = asyncio.get_running_loop().create_future()
        self.open.append((attributes, future))
        return future

    def answer(self, allowed: bool, *, index: int = 0, **rest: Any) -> None:
        """Answer the oldest open question, or another."""
        attributes, future = self.open.pop(index)
        future.set_result(Review(attributes, allowed, **rest))

    def fail(self, error: Exception = UNREACHABLE) -> None:
        """Let the oldest open question end in an error."""
        self.open.pop(0)[1].set_exception(error)


class Counter:
    """A cache over a desk, by a clock in the test's hands, with a watch that sees everything."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.desk = Desk()
        self.generations = Generations(self.clock)
        self.generations.watched = True
        self.cache = CachedAuthorizer(
            self.desk, ReviewCacheSettings(**settings), self.generations, clock=self.clock, wall=self.clock.wall
        )

    async def know(self, allowed: bool, subject: Subject = ANN, asked: Attributes = LIST_PODS, **rest: Any) -> None:
        """Ask, and have it answered now."""
        waiting = self.cache.review(subject, asked)
        assert not isinstance(waiting, Review)
        self.desk.answer(allowed, **rest)
        assert (await waiting).allowed is allowed

    def kept(self, subject: Subject = ANN, asked: Attributes = LIST_PODS) -> bool | None:
        """Return the answer that memory would give now, None where it has none."""
        review = self.cache.kept.get(review_key(subject, asked), subject, asked)
        return review.allowed if review else None
