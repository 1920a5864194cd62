"""Asks the Kubeflow Pipelines API which namespace an object belongs to, and remembers the answer.

Promises:

- An answer in memory is plain calls: no coroutine, task or lock.
- Concurrent lookups of one id are one call. It belongs to none of its callers, so a
  cancelled caller leaves the others alone.
- A user who floods fills neither the calls nor the queue, and nobody waits behind him: one
  joins another user's lookup only once its call is under way.
- An id is sent only where it can be nothing but an id; every other one is unknown.
- A missing object, one that we may not see, and one that cannot exist are all None.
  Everything else that is no clear answer is Unavailable, and is never kept.

An object's namespace never changes, but an id may come back after a delete, so answers have
a longest life. Unknown ids are kept apart, so that guessing displaces no known one.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cachetools import TLRUCache, TTLCache

from extauthz.errors import Unavailable
from extauthz.found import Found
from extauthz.limiter import Limiter
from extauthz.lookup import answers
from extauthz.lookup.answers import Elsewhere, Told
from extauthz.lookup.api import KfpApi, Resolve, unavailable
from extauthz.lookup.artifact import namespace_of_key, run_of_key
from extauthz.settings import KfpLookupSettings

MAX_UNKNOWN = 10_000
WAITING_PER_CALL = 16
"""How many lookups may wait for each one that may be under way."""
KEEP_MODE_SECONDS = 60.0
"""How long the way that KFP lists is remembered: a restart with other flags changes it."""

ARTIFACT_KEY = "artifact_key"
UNSCOPED_LIST = "unscoped_list"
_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?", re.ASCII)

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Kind:
    path: str
    read: Callable[[Mapping[str, Any], str], Told]


_KINDS = {
    "artifact": _Kind("/apis/v2beta1/artifacts/{}", answers.artifact),
    "experiment": _Kind("/apis/v2beta1/experiments/{}", answers.experiment),
    "job": _Kind("/apis/v2beta1/recurringruns/{}", answers.recurring_run),
    "pipeline": _Kind("/apis/v2beta1/pipelines/{}", answers.pipeline),
    "pipeline_version": _Kind("/apis/v2beta1/pipelines/-/versions/{}", answers.pipeline_version),
    "run": _Kind("/apis/v1beta1/runs/{}", answers.run),
    UNSCOPED_LIST: _Kind("/apis/v2beta1/healthz", answers.unscoped_list),
}
KINDS = frozenset((*_KINDS, ARTIFACT_KEY))
"""The kinds of objects that a policy may name in `lookup:KIND:SOURCE`; `unscoped_list` is what a list of a resource
shows where it names no namespace."""


@dataclass(slots=True)
class LookupCounts:
    """What has happened since the start; `calls` are requests to the KFP API."""

    hits: int = 0
    joined: int = 0
    misses: int = 0
    calls: int = 0
    failures: int = 0
    """Misses that got no usable answer."""


@dataclass(slots=True, eq=False)
class _Flight:
    """One lookup under way, for whom it was begun, and the answer that its callers wait for."""

    key: Key
    user: str
    answer: asyncio.Future[Found | None]
    called: bool = False


class KfpLookup:
    """Looks up objects of Kubeflow Pipelines. Between `start` and `stop` it can ask.

    `resolve` turns the settings' relative paths into absolute ones; `clock` is monotonic,
    in seconds.
    """

    def __init__(
        self,
        settings: KfpLookupSettings,
        *,
        resolve: Resolve = Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigurationError where `caFile` cannot be used. Tokens are read when they are needed."""
        self.counts = LookupCounts()
        self._settings = settings
        self._api = KfpApi(settings, resolve, clock)
        self._known: TLRUCache[Key, Found] = TLRUCache(settings.max_entries, self._expiry, timer=clock)
        few = min(MAX_UNKNOWN, settings.max_entries)
        self._unknown: TTLCache[Key, None] = TTLCache(few, settings.unknown_seconds, timer=clock)
        self._flights: dict[Key, _Flight] = {}
        self._open = False
        self._tasks: set[asyncio.Task[Found | None]] = set()
        self.limiter = Limiter(
            concurrent=settings.max_concurrent,
            queued=settings.max_concurrent * WAITING_PER_CALL,
            per_user=settings.max_per_user,
            full=_overloaded,
        )

    async def start(self) -> None:
        """Be ready to ask; nothing is sent yet."""
        await self._api.start()
        self._open = True

    async def stop(self) -> None:
        """Answer everyone who waits with Unavailable, and close all connections."""
        self._open = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._api.stop()

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002  # KFP's own word
        """Return what is known of an object, or an awaitable of it; None where there is none.

        `user` is for whom it is asked. Raises Unavailable, at once or when awaited. The
        awaitable may be left alone.
        """
        if kind == ARTIFACT_KEY:
            return self._of_artifact(id, user)
        key = (kind, id)
        found = self._known.get(key)
        if found is not None or key in self._unknown or _ID.fullmatch(id) is None:
            self.counts.hits += 1
            return found
        flight = self._flights.get(key)
        if flight and (flight.called or flight.user == user):
            self.counts.joined += 1
            return _wait_for(flight.answer)
        return _wait_for(self._launch(key, user))

    def _expiry(self, key: Key, _: Found, now: float) -> float:
        return now + (KEEP_MODE_SECONDS if key[0] == UNSCOPED_LIST else self._settings.keep_seconds)

    def _of_artifact(self, key: str, user: str) -> Found | Awaitable[Found | None] | None:
        """The prefix is the authority; only layouts without one are told by the run id inside."""
        if namespace := namespace_of_key(key):
            return Found(namespace)
        run = run_of_key(key)
        return self.namespace("run", run, user) if run else None

    def _launch(self, key: Key, user: str) -> asyncio.Future[Found | None]:
        if not self._open:
            raise unavailable("is not asked any more")
        self.counts.misses += 1
        loop = asyncio.get_running_loop()
        flight = _Flight(key, user, loop.create_future())
        flight.answer.add_done_callback(_retrieve)
        task = loop.create_task(self._find(flight))
        task.add_done_callback(partial(self._land, flight))
        self._tasks.add(task)
        self._flights[key] = flight
        return flight.answer

    def _land(self, flight: _Flight, task: asyncio.Task[Found | None]) -> None:
        """Hand what a lookup came to to those who wait for it, and keep it unless it is an error."""
        self._tasks.discard(task)
        key, answer = flight.key, flight.answer
        if self._flights.get(key) is flight:
            del self._flights[key]
        error = unavailable("is not asked any more") if task.cancelled() else task.exception()
        if error is not None:
            self.counts.failures += 1
            answer.set_exception(error)
            return
        found = task.result()
        if found is None:
            self._unknown[key] = None
        else:
            self._known[key] = found
        answer.set_result(found)

    async def _find(self, flight: _Flight) -> Found | None:
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                told = await self._told(flight)
                return await self._follow(told, flight.user) if isinstance(told, Elsewhere) else told
        except TimeoutError:
            raise unavailable("did not answer in time") from None

    async def _told(self, flight: _Flight) -> Told:
        """Ask, unless another user's lookup of the same id went ahead while this one waited for its turn."""
        key = flight.key
        async with self.limiter.slot(flight.user, math.inf):
            found = self._known.get(key)
            if found is not None or key in self._unknown:
                return found
            ahead = self._flights.get(key, flight)
            if not ahead.called:
                self._flights[key], flight.called = flight, True
                return await self._call(*key)
        return await asyncio.shield(ahead.answer)

    async def _call(self, kind: str, asked: str) -> Told:
        self.counts.calls += 1
        body = await self._api.get(_KINDS[kind].path.format(asked))
        return None if body is None else _KINDS[kind].read(answers.document(body), asked)

    async def _follow(self, parent: Elsewhere, user: str) -> Found | None:
        """Go on to the object that decides; it is a lookup of its own, with its own life in memory."""
        answer = self.namespace(parent.kind, parent.id, user)
        found = answer if isinstance(answer, Found) or answer is None else await answer
        if found is None:
            return None
        return found if parent.name is None else Found(found.namespace, parent.name)


def _wait_for(answer: asyncio.Future[Found | None]) -> Awaitable[Found | None]:
    """Return a caller's own wait: cancelling it, or never looking at it, is nobody else's matter."""
    waiter = asyncio.shield(answer)
    waiter.add_done_callback(_retrieve)
    return waiter


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark an error as seen, so that one which nobody waits for any more is no warning."""
    if not future.cancelled():
        future.exception()


def _overloaded() -> Unavailable:
    return Unavailable("lookup_overloaded", "The owner of an object could not be found out: too many ask.")
