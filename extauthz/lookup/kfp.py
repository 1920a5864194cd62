"""Asks the Kubeflow Pipelines API which namespace an object belongs to, and remembers the answer.

Promises:

- An answer in memory is plain calls: no coroutine, task or lock.
- Concurrent lookups of one id are one call. It belongs to none of its callers, so a
  cancelled caller leaves the others alone.
- An id is sent only where it can be nothing but an id; every other one is unknown.
- A missing object, one that we may not see, and one that cannot exist are all None.
  Everything else that is no clear answer is Unavailable, and is never kept.

An object's namespace never changes, but an id may come back after a delete, so answers have
a longest life. Unknown ids are kept apart, so that guessing displaces no known one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from cachetools import TTLCache

from extauthz.errors import ConfigurationError, Problem, Unavailable
from extauthz.found import Found
from extauthz.lookup import answers
from extauthz.lookup.answers import Elsewhere, Told
from extauthz.lookup.artifact import namespace_of_key, run_of_key
from extauthz.lookup.token import bearer
from extauthz.settings import KfpLookupSettings

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""A run's answer holds its workflow, which etcd bounds to 1.5 MB, up to three times."""
MAX_UNKNOWN = 10_000
WAITING_PER_CALL = 16
"""How many lookups may wait for each one that may be under way."""
WARN_SECONDS = 60.0

ARTIFACT_KEY = "artifact_key"
_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?", re.ASCII)
# Nothing is inflated: a small answer cannot become a large one.
_HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "extauthz"}

_logger = logging.getLogger(__name__)

Key = tuple[str, str]
Resolve = Callable[[Path], Path]


@dataclass(frozen=True, slots=True)
class _Kind:
    path: str
    read: Callable[[Mapping[str, Any], str], Told]


_KINDS = {
    "artifact": _Kind("/apis/v2beta1/artifacts/", answers.artifact),
    "experiment": _Kind("/apis/v2beta1/experiments/", answers.experiment),
    "job": _Kind("/apis/v2beta1/recurringruns/", answers.recurring_run),
    "pipeline": _Kind("/apis/v2beta1/pipelines/", answers.pipeline),
    "pipeline_version": _Kind("/apis/v2beta1/pipelines/-/versions/", answers.pipeline_version),
    "run": _Kind("/apis/v1beta1/runs/", answers.run),
}
KINDS = frozenset((*_KINDS, ARTIFACT_KEY))
"""The kinds of objects that a policy may name in `lookup:KIND:SOURCE`."""


@dataclass(slots=True)
class LookupCounts:
    """What has happened since the start; `calls` are requests to the KFP API."""

    hits: int = 0
    joined: int = 0
    misses: int = 0
    calls: int = 0
    failures: int = 0
    """Misses that got no usable answer."""


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
        self.counts = LookupCounts()
        """Raises ConfigurationError where `caFile` cannot be used. Tokens are read when they are needed."""
        self._settings = settings
        self._trust = _trust(resolve(settings.ca_file)) if settings.ca_file else True
        self._resolve = resolve
        self._clock = clock
        self._known: TTLCache[Key, Found] = TTLCache(settings.max_entries, settings.keep_seconds, timer=clock)
        few = min(MAX_UNKNOWN, settings.max_entries)
        self._unknown: TTLCache[Key, None] = TTLCache(few, settings.unknown_seconds, timer=clock)
        self._flights: dict[Key, asyncio.Future[Found | None]] = {}
        self._tasks: set[asyncio.Task[Found | None]] = set()
        self._slots = asyncio.Semaphore(settings.max_concurrent)
        self._session: aiohttp.ClientSession | None = None
        self._quiet_until = 0.0

    async def start(self) -> None:
        """Be ready to ask; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._trust, limit=self._settings.max_concurrent),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )

    async def stop(self) -> None:
        """Answer everyone who waits with Unavailable, and close all connections."""
        session, self._session = self._session, None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if session:
            await session.close()

    def namespace(self, kind: str, id: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002  # KFP's own word
        """Return what is known of an object, or an awaitable of it; None where there is none.

        Raises Unavailable, at once or when awaited. The awaitable may be left alone.
        """
        if kind == ARTIFACT_KEY:
            return self._of_artifact(id)
        key = (kind, id)
        found = self._known.get(key)
        if found is not None:
            self.counts.hits += 1
            return found
        if _ID.fullmatch(id) is None or key in self._unknown:
            self.counts.hits += 1
            return None
        flight = self._flights.get(key)
        self.counts.joined += flight is not None
        return _wait_for(flight or self._launch(key))

    def _of_artifact(self, key: str) -> Found | Awaitable[Found | None] | None:
        """The prefix is the authority; only layouts without one are told by the run id inside."""
        if namespace := namespace_of_key(key):
            return Found(namespace)
        run = run_of_key(key)
        return self.namespace("run", run) if run else None

    def _launch(self, key: Key) -> asyncio.Future[Found | None]:
        if self._session is None:
            raise _unavailable("is not asked any more")
        if len(self._flights) >= self._settings.max_concurrent * (1 + WAITING_PER_CALL):
            raise Unavailable("lookup_overloaded", "The owner of an object could not be found out: too many ask.")
        self.counts.misses += 1
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._find(self._session, key))
        answer: asyncio.Future[Found | None] = loop.create_future()
        answer.add_done_callback(_retrieve)
        task.add_done_callback(partial(self._land, key, answer))
        self._tasks.add(task)
        self._flights[key] = answer
        return answer

    def _land(self, key: Key, answer: asyncio.Future[Found | None], task: asyncio.Task[Found | None]) -> None:
        """Hand what a lookup came to to those who wait for it, and keep it unless it is an error."""
        self._tasks.discard(task)
        del self._flights[key]
        error = _unavailable("is not asked any more") if task.cancelled() else task.exception()
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

    async def _find(self, session: aiohttp.ClientSession, key: Key) -> Found | None:
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                kind, asked = key
                body = await self._get(session, _KINDS[kind].path + asked)
                told = None if body is None else _KINDS[kind].read(answers.document(body), asked)
                return await self._follow(told) if isinstance(told, Elsewhere) else told
        except TimeoutError:
            raise _unavailable("did not answer in time") from None

    async def _follow(self, parent: Elsewhere) -> Found | None:
        """Go on to the object that decides; it is a lookup of its own, with its own life in memory."""
        answer = self.namespace(parent.kind, parent.id)
        found = answer if isinstance(answer, Found) or answer is None else await answer
        if found is None:
            return None
        return found if parent.name is None else Found(found.namespace, parent.name)

    async def _get(self, session: aiohttp.ClientSession, path: str) -> bytes | None:
        """Return the body of a 200, None for an object that is not there or not for us to see."""
        async with self._slots:
            self.counts.calls += 1
            try:
                return await self._ask(session, path)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise _unavailable("cannot be reached") from error

    async def _ask(self, session: aiohttp.ClientSession, path: str) -> bytes | None:
        headers = {"authorization": bearer(self._resolve(self._settings.token_file))}
        async with session.get(self._settings.url + path, headers=headers, allow_redirects=False) as response:
            if response.status in (403, 404):
                self._note(response.status)
                return None
            if response.status != 200:
                raise answers.unexpected(f"has the status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise answers.unexpected(f"is larger than {MAX_ANSWER_BYTES} bytes")
            return bytes(body)

    def _note(self, status: int) -> None:
        """Tell the operator what callers must not learn: that we lack the right to see objects."""
        if status == 403 and self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + WARN_SECONDS
            _logger.warning("the KFP API refuses lookups with 403: extauthz needs `get` in all namespaces")


def _trust(file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(Problem("cannot be used as certificate authorities", file)) from error


def _wait_for(answer: asyncio.Future[Found | None]) -> Awaitable[Found | None]:
    """Return a caller's own wait: cancelling it, or never looking at it, is nobody else's matter."""
    waiter = asyncio.shield(answer)
    waiter.add_done_callback(_retrieve)
    return waiter


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark an error as seen, so that one which nobody waits for any more is no warning."""
    if not future.cancelled():
        future.exception()


def _unavailable(what: str) -> Unavailable:
    return Unavailable("lookup_unavailable", f"The owner of an object could not be found out: the KFP API {what}.")
