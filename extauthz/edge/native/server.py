"""A listener and its connections: a bounded number, looked after once a second, drained before they are closed."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable
from typing import Protocol

from extauthz.edge.listen import Listening

MAX_CONNECTIONS = 1000
TICK_SECONDS = 1.0


class Served(Protocol):
    """One connection, as its listener sees it."""

    def tick(self, now: float) -> None:
        """A second has passed; `now` is monotonic. What takes too long is to be ended."""
        ...

    def drain(self) -> None:
        """Answer what has been asked, take nothing new, then close."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Connections:
    """The open connections of a listener."""

    def __init__(self, limit: int = MAX_CONNECTIONS, *, max_age: float | None = None) -> None:
        self._limit = limit
        self._max_age = max_age
        self._open: set[Served] = set()
        self._ends: dict[Served, float] = {}
        self._gone = asyncio.Event()
        self.draining = False

    def add(self, connection: Served) -> bool:
        """Take a connection in. False: there are too many."""
        if len(self._open) >= self._limit:
            return False
        self._open.add(connection)
        return True

    def discard(self, connection: Served) -> None:
        """Let go of a connection that is closed."""
        self._open.discard(connection)
        self._ends.pop(connection, None)
        if not self._open:
            self._gone.set()

    def tick(self, now: float) -> None:
        """Pass on that a second has passed, and drain what is too old."""
        for connection in list(self._open):
            connection.tick(now)
            if self._max_age is not None and now > self._ends.setdefault(connection, now + _spread(self._max_age)):
                self._ends[connection] = math.inf
                connection.drain()

    async def drain(self, grace: float) -> None:
        """Drain all connections; those that are not closed after `grace` seconds are cut off."""
        self.draining = True
        self._gone.clear()
        for connection in list(self._open):
            connection.drain()
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._gone.wait()
        for connection in list(self._open):
            connection.abort()
        if self._open:
            await self._gone.wait()


def _spread(seconds: float) -> float:
    """Return up to a tenth more, so that connections that began together do not end together."""
    return seconds * random.uniform(1, 1.1)  # noqa: S311 -- no secret


class Server:
    """Takes connections from where they come; `serve` makes the protocol of each new one."""

    def __init__(self, listening: Listening, serve: Callable[[Connections], asyncio.Protocol]) -> None:
        self._listening = listening
        self._serve = serve
        self._connections = Connections(max_age=listening.max_age)
        self._tick: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listening.port

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        await self._listening.start(lambda: self._serve(self._connections))
        self._plan_tick()

    async def stop(self, grace: float) -> None:
        """Take no further connections, and drain those there are within `grace` seconds."""
        if self._tick is None:
            return
        await self._listening.stop()
        await self._connections.drain(grace)
        self._tick.cancel()

    def _plan_tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._connections.tick(loop.time())
        self._tick = loop.call_later(TICK_SECONDS, self._plan_tick)
