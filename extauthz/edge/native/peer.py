"""What connections of both protocols share: counting, back-pressure, and an end that loses no answer."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from extauthz.edge.native.server import Connections

HIGH_WATER = 256 * 1024
"""So many unsent bytes stop us from reading on."""
LINGER_SECONDS = 1.0
"""How long we wait for the peer to close after we have: closing on unread bytes would destroy our last answer."""


class PeerProtocol(asyncio.Protocol):
    """A connection."""

    transport: asyncio.Transport

    def __init__(self, connections: Connections, *, send_seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.connections = connections
        self.full = False
        """Whether the socket takes no more for now."""
        self.closing = False
        """Whether nothing more is read or written."""
        self._send_seconds = send_seconds
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)
        connected: socket.socket = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self.connections.add(self):
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.closing = True
        self.connections.discard(self)

    def pause_writing(self) -> None:
        self.full = True
        self._since = self.loop.time()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.full = False
        self.loop.call_soon(self._resume)

    def eof_received(self) -> bool | None:
        return None

    def data_received(self, data: bytes) -> None:
        raise NotImplementedError

    def work(self) -> None:
        """Go on with what has been read, once the peer has read what was written."""

    def tick(self, now: float) -> None:
        """Cut off a peer that does not read, and one that does not close after us."""
        if self.closing and not self.transport.get_write_buffer_size():
            if now - self._since >= LINGER_SECONDS:
                self.abort()
        elif (self.closing or self.full) and now - self._since > self._send_seconds:
            self.abort()

    def drain(self) -> None:
        """Answer what has been asked, take nothing new, then end."""
        raise NotImplementedError

    def end(self) -> None:
        """Close once all that was written is sent."""
        if not self.closing:
            self.closing = True
            self._since = self.loop.time()
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.closing = True
        self.transport.abort()

    def _resume(self) -> None:
        if not self.closing and not self.full:
            self.transport.resume_reading()
            self.work()
