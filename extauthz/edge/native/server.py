"""A listener and its connections: a bounded number, looked after once a second, drained before they are closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from extauthz.edge.listen import bind

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

    def __init__(self, limit: int = MAX_CONNECTIONS) -> None:
        self._limit = limit
        self._open: set[Served] = set()
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
        if not self._open:
            self._gone.set()

    def tick(self, now: float) -> None:
        """Pass on that a second has passed."""
        for connection in list(self._open):
            connection.tick(now)

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


class Server:
    """Listens on an address; `serve` makes the protocol of each new connection."""

    def __init__(self, address: str, serve: Callable[[Connections], asyncio.Protocol]) -> None:
        self._address = address
        self._serve = serve
        self._connections = Connections()
        self._server: asyncio.Server | None = None
        self._tick: asyncio.TimerHandle | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        listening = bind(self._address)
        self.port = listening.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: self._serve(self._connections), sock=listening, backlog=1024)
        self._plan_tick()

    async def stop(self, grace: float) -> None:
        """Take no further connections, and drain those there are within `grace` seconds."""
        if self._server is None:
            return
        self._server.close()
        await self._connections.drain(grace)
        if self._tick is not None:
            self._tick.cancel()

    def _plan_tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._connections.tick(loop.time())
        self._tick = loop.call_later(TICK_SECONDS, self._plan_tick)
