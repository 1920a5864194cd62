"""HTTP/1.1 and HTTP/2 with prior knowledge on one port: the first bytes tell (RFC 9113 section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

from extauthz.edge.native.h2.frames import PREFACE
from extauthz.edge.native.peer import PeerProtocol
from extauthz.edge.native.server import Connections


class EitherProtocol(PeerProtocol):
    """A connection whose protocol is not known yet. It must begin within `arrive_seconds`."""

    def __init__(
        self,
        connections: Connections,
        *,
        http1: Callable[[], PeerProtocol],
        http2: Callable[[], PeerProtocol],
        arrive_seconds: float,
    ) -> None:
        super().__init__(connections, send_seconds=arrive_seconds)
        self._http1 = http1
        self._http2 = http2
        self._arrive_seconds = arrive_seconds
        self._made = self.loop.time()
        self._first = b""

    def data_received(self, data: bytes) -> None:
        self._first += data
        if self._first.startswith(PREFACE):
            self._hand_over(self._http2())
        elif not PREFACE.startswith(self._first):
            self._hand_over(self._http1())

    def tick(self, now: float) -> None:
        """Close a connection that does not begin."""
        super().tick(now)
        if now - self._made > self._arrive_seconds:
            self.end()

    def drain(self) -> None:
        """Close: nothing has been asked."""
        self.end()

    def _hand_over(self, protocol: PeerProtocol) -> None:
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        self.connections.discard(self)
        if not protocol.closing:
            protocol.data_received(self._first)
