"""How much one peer may cost. Times are in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of each connection. Envoy never reaches them; whoever does loses only its own connection."""

    max_streams: int = 1000
    """Requests under way at once; further ones are refused with REFUSED_STREAM, which is safe to retry."""
    max_header_bytes: int = 96 * 1024
    """The field section of a request. Envoy's own limit is 60 KiB and 100 fields of at most 32 bytes overhead."""
    max_fragments: int = 32
    """The frames that a field section may be cut into."""
    max_buffered_bytes: int = 16 * 1024 * 1024
    """The bodies of all requests that have not arrived whole."""
    stream_window: int = 1024 * 1024
    """What a peer may send of one body before it hears from us."""
    connection_window: int = 8 * 1024 * 1024
    """What a peer may send of all bodies before it hears from us."""
    max_overhead: int = 1000
    """Frames per second that bring no request along, beyond one for each request answered."""
    small_data: int = 256
    """A DATA frame below this size that does not end a request counts as such a frame."""
    arrive_seconds: float = 10
    """How long the handshake may take, and each request from its first byte to its last."""
    send_seconds: float = 30
    """How long a peer may leave an answer waiting for its window or its socket."""
    ping_seconds: float = 60
    """After this long without a byte the peer is asked whether it is still there."""
