"""Following one resource: list, watch, resume, list again, and saying honestly how that goes.

A streaming list marks its own end; a resumed watch has no such mark, so it counts as
caught up after the settling time. A watch that the server ended in good order is resumed
at once, and is down only when that takes longer than the settling time.

A silently dead connection is noticed when `rotateSeconds` are over and the server has not
ended the watch. An API server restored from a backup keeps a watch of a newer version
silent for ever, so before each resume the versions are compared. What cannot be told is a
restored server that has counted past our version before we come back; it is seen at the
next change of the objects concerned, and no answer outlives its TTL until then.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from extauthz.access.kubernetes.connection import Rejected
from extauthz.access.watch.feed import Expired, Feed
from extauthz.errors import Unavailable
from extauthz.settings import WatchSettings

_log = logging.getLogger(__name__)


class State(StrEnum):
    """How well a resource is followed. Only while `synced` is every change seen as it happens."""

    SYNCED = "synced"
    BEHIND = "behind"
    DOWN = "down"
    FORBIDDEN = "forbidden"


_LEVELS = {
    State.SYNCED: logging.INFO,
    State.BEHIND: logging.INFO,
    State.DOWN: logging.WARNING,
    State.FORBIDDEN: logging.ERROR,
}


@dataclass(slots=True)
class WatchCounts:
    """What has happened since the start, over all resources."""

    lines: int = 0
    """Events and bookmarks."""
    connects: int = 0
    lists: int = 0
    failures: int = 0
    restarts: int = 0
    """Errors that nobody foresaw, after which a resource is listed anew."""


class Follower:
    """Follows one resource. `changed` is called after every event, connect and change of `state`."""

    def __init__(
        self,
        name: str,
        feed: Feed,
        settings: WatchSettings,
        counts: WatchCounts,
        *,
        settling_seconds: float,
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.state = State.BEHIND
        self.detail = "not listed yet"
        self.heard_at = asyncio.get_running_loop().time()
        """When the API server last showed that the watch lives, by the loop's clock."""
        self._feed = feed
        self._settings = settings
        self._counts = counts
        self._settling_seconds = settling_seconds
        self._changed = changed
        self._streaming_lists = True
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Follow until cancelled; whatever goes wrong is a state, and is tried again."""
        try:
            while True:
                try:
                    await self._follow()
                except Unavailable as error:
                    await self._recover(error)
                except Exception as error:  # noqa: BLE001 (a follower that dies silently would keep revoked rights)
                    _log.exception("following %s failed; listing it anew", self.name)
                    self._counts.restarts += 1
                    self._feed.version = ""
                    await self._fail(State.DOWN, f"failed unexpectedly: {type(error).__name__}")
        finally:
            self._cancel_timer()

    async def _follow(self) -> None:
        """Watch until the server ends the watch in good order; first list, or make sure that it can be resumed."""
        loop, seconds = asyncio.get_running_loop(), self._settings.rotate_seconds
        if self._feed.version:
            if await self._feed.is_ahead():
                raise Expired("watch_ahead", "the API server is older than the last seen version")
        elif not self._streaming_lists:
            self._list()
            await self._feed.list_pages()
        began = loop.time()
        async with self._feed.watch(max(1, round(_jitter(0.75) * seconds))) as lines:
            self._connected()
            async for line in lines:
                self._take(line)
        if not self._feed.version or loop.time() - began < self._settings.backoff_seconds:
            raise Unavailable("watch_ended", "the API server ended the watch too early")
        self._after(self._settling_seconds, State.DOWN, "the watch ended and could not be resumed yet")

    def _list(self) -> None:
        self._counts.lists += 1
        self._become(State.BEHIND, "listing")

    def _connected(self) -> None:
        self._counts.connects += 1
        self.heard_at = asyncio.get_running_loop().time()
        if not self._feed.version:
            self._list()
        elif self.state is State.SYNCED:
            self._cancel_timer()
            self._changed()
        else:
            self._become(State.BEHIND, "catching up")
            self._after(self._settling_seconds, State.SYNCED)

    def _take(self, line: bytes) -> None:
        self._counts.lines += 1
        self.heard_at = asyncio.get_running_loop().time()
        if self._feed.take(line):
            self._become(State.SYNCED)
        self._changed()

    async def _recover(self, error: Unavailable) -> None:
        """Decide what a failure means, and wait where waiting may help."""
        status = error.answer.status if isinstance(error, Rejected) else 0
        retry_after = error.answer.retry_after if isinstance(error, Rejected) else None
        if self._feed.version and (isinstance(error, Expired) or status == 410):
            self._feed.version = ""
            self._become(State.BEHIND, "listing anew, for the last seen version has expired")
        elif status in (400, 422) and not self._feed.version and self._streaming_lists:
            self._streaming_lists = False
            _log.info("the API server offers no streaming lists of %s; listing pages", self.name)
        elif status in (401, 403):
            await self._fail(State.FORBIDDEN, f"HTTP {status}: grant extauthz list and watch of {self.name}")
        else:
            if status in (400, 422):  # our version may be what is refused
                self._feed.version = ""
            await self._fail(State.DOWN, error.message, at_least=retry_after or 0)

    async def _fail(self, state: State, detail: str, *, at_least: float = 0) -> None:
        """Say so, and wait: longer after each failure, with jitter so that replicas part."""
        self._counts.failures += 1
        self._become(state, detail)
        settings = self._settings
        pause = max(at_least, settings.backoff_seconds * 2 ** min(self._failures, 16))
        self._failures += 1
        await asyncio.sleep(min(pause, settings.max_backoff_seconds) * _jitter(0.5))

    def _become(self, state: State, detail: str = "") -> None:
        self._cancel_timer()
        if state is State.SYNCED:
            self._failures = 0
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            _log.log(_LEVELS[state], "watch of %s: %s%s", self.name, state, f" ({detail})" if detail else "")
        self._changed()

    def _after(self, seconds: float, state: State, detail: str = "") -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._become, state, detail)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None


def _jitter(least: float) -> float:
    return random.uniform(least, 1)  # noqa: S311 (nothing secret: it keeps replicas from acting in step)
