"""A worker's source of connections: its supervisor.

Promises: no connection that the supervisor has handed over is dropped. A worker that stops first
says so, and goes on serving what comes until the supervisor has heard it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping

from extauthz.edge.listen import HANDSHAKE_SECONDS, Listening
from extauthz.edge.tls import Certificates
from extauthz.workers.channel import KINDS, LEAVING, NO_MORE, SERVING, receive

MAX_AGE_SECONDS = 60.0
"""How long a connection stays with one worker, or up to a tenth longer."""

Serve = Callable[[], asyncio.BaseProtocol]

_logger = logging.getLogger(__name__)


class Handed:
    """Takes connections from the channel to the supervisor. `listening` is what the edges see of it."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._serve: dict[bytes, Serve] = {}
        self._tls: dict[bytes, ssl.SSLContext] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._no_more = asyncio.Event()
        self.listening: dict[str, Listening] = {
            "grpc": _Kind(self, KINDS["grpc"], MAX_AGE_SECONDS),
            "http": _Kind(self, KINDS["http"], MAX_AGE_SECONDS),
            "admin": _Kind(self, KINDS["admin"], None),
        }
        self.orphaned = asyncio.Event()
        """Set once the supervisor is gone."""

    def secure(self, certificates: Mapping[str, Certificates]) -> None:
        """Serve these listeners by TLS; the supervisor's own questions come by a pair of sockets of ours."""
        self._tls = {KINDS[name]: found.server_context() for name, found in certificates.items() if name != "admin"}

    def serving(self) -> None:
        """Ask for connections."""
        self._tell(SERVING)

    async def leave(self) -> None:
        """Ask for no more connections, and wait until none is under way."""
        self._tell(LEAVING)
        await self._no_more.wait()
        await asyncio.gather(*self._tasks)

    def serve(self, kind: bytes, serve: Serve) -> None:
        """Let `serve` make the protocol of each connection of a kind."""
        if not self._serve:
            asyncio.get_running_loop().add_reader(self._channel.fileno(), self._read)
        self._serve[kind] = serve

    def _tell(self, what: bytes) -> None:
        try:
            self._channel.send(what)
        except OSError:
            self._end()

    def _read(self) -> None:
        """Read one message; the loop calls again while there are more."""
        try:
            told, connection = receive(self._channel)
        except BlockingIOError:
            return
        except OSError:
            told, connection = b"", None
        if connection is not None:
            self._take(told, connection)
        elif told == NO_MORE:
            self._no_more.set()
        elif not told:
            self._end()

    def _take(self, kind: bytes, connection: socket.socket) -> None:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._accept(loop, kind, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, loop: asyncio.AbstractEventLoop, kind: bytes, connection: socket.socket) -> None:
        tls = self._tls.get(kind)
        seconds = HANDSHAKE_SECONDS if tls else None
        try:
            await loop.connect_accepted_socket(self._serve[kind], connection, ssl=tls, ssl_handshake_timeout=seconds)
        except OSError as error:  # the peer has already gone
            _logger.info("a connection was lost before it was served: %s", error)
            connection.close()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._no_more.set()
        self.orphaned.set()


class _Kind:
    """The connections of one listener."""

    port = 0

    def __init__(self, handed: Handed, kind: bytes, max_age: float | None) -> None:
        self._handed = handed
        self._kind = kind
        self.max_age = max_age

    async def start(self, serve: Serve) -> None:
        """Let `serve` make the protocol of each new connection."""
        self._handed.serve(self._kind, serve)

    async def stop(self) -> None:
        """Take no further connections; the supervisor itself still asks how we are."""
        if self._kind != KINDS["admin"]:
            await self._handed.leave()
