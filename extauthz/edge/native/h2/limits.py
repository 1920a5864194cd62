"""How much one peer may cost. Times are in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from extauthz.edge.native.h2.frames import ConnectionFault, ErrorCode


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of each connection. Envoy never reaches them; whoever does loses only its own connection."""

    header_table: bool = False
    """Let the peer use an HPACK table of 4096 bytes instead of asking it for none."""
    max_streams: int = 1000
    """Requests under way at once; further ones are refused with REFUSED_STREAM, which is safe to retry."""
    max_header_bytes: int = 96 * 1024
    """The field section of a request. Envoy itself accepts 60 KiB and 100 fields."""
    max_fragments: int = 32
    """The frames that a field section may be cut into."""
    max_buffered_bytes: int = 16 * 1024 * 1024
    """The bodies of all requests that have not arrived whole."""
    stream_window: int = 1024 * 1024
    """What a peer may send of one body before it hears from us. At least 65,535."""
    connection_window: int = 8 * 1024 * 1024
    """What a peer may send of all bodies before it hears from us. More than 65,535."""
    max_overhead: int = 1000
    """Frames per second that bring no request along, beyond one for each request answered."""
    small_data: int = 256
    """A DATA frame below this size that does not end a request counts as such a frame."""
    arrive_seconds: float = 10
    """How long the handshake may take, and each request from its first byte to its last."""
    send_seconds: float = 30
    """How long an answer may wait for the peer's window or its socket."""
    ping_seconds: float = 60
    """After this long without a byte the peer is asked whether it is still there."""


class Account:
    """Sets the frames that bring nothing against the requests that were answered."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.balance = limit

    def charge(self, cost: int = 1) -> None:
        """Count frames that bring nothing. Raises ConnectionFault when there are too many."""
        self.balance -= cost
        if self.balance < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without requests")

    def refill(self) -> None:
        """Begin a new second; what was earned before counts no longer."""
        self.balance = self._limit
