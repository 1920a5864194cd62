"""What an application is to a connection: it is asked whole requests and answers whole responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from typing import Protocol

from extauthz.edge.native.h2 import frames
from extauthz.edge.native.h2.fields import Head


class Response:
    """An answer, prepared once and sent as often as wanted.

    `headers` and `trailers` are encoded field sections; without trailers there are none.
    `parts` are all its frames, cut where the stream id belongs: `stream_id.join(parts)` is
    what goes out when the peer's windows allow it. They are empty for what fits no single frame.
    """

    __slots__ = ("data", "headers", "parts", "size", "trailers")

    def __init__(self, headers: bytes, data: bytes = b"", trailers: bytes = b"") -> None:
        self.headers = headers
        self.data = data
        self.trailers = trailers
        self.size = len(data)
        self.parts = self._parts()

    def _parts(self) -> tuple[bytes, ...]:
        heads, data, tails = self.headers, self.data, self.trailers
        if max(len(heads), len(data), len(tails)) > frames.MAX_FRAME_BYTES:
            return ()
        last = frames.END_HEADERS | frames.END_STREAM
        if not data and not tails:
            return frames.start(frames.HEADERS, last, len(heads)), heads
        start = frames.start(frames.HEADERS, frames.END_HEADERS, len(heads))
        if not tails:
            return start, heads + frames.start(frames.DATA, frames.END_STREAM, len(data)), data
        trailer_start = frames.start(frames.HEADERS, last, len(tails))
        if not data:
            return start, heads + trailer_start, tails
        return start, heads + frames.start(frames.DATA, 0, len(data)), data + trailer_start, tails


class Streaming:
    """An answer in pieces, each sent when it comes; the response headers go out at once."""

    __slots__ = ("headers", "pieces", "trailers")

    def __init__(self, headers: bytes, pieces: AsyncGenerator[bytes, None], trailers: bytes) -> None:
        self.headers = headers
        self.pieces = pieces
        self.trailers = trailers


Answer = Response | Streaming | Awaitable[Response]


class Route(Protocol):
    """Who answers a request, decided from its head alone."""

    @property
    def max_body(self) -> int:
        """The most bytes that a body may have; a larger one is answered by `overflow`."""
        ...

    def answer(self, body: bytes) -> Answer:
        """Answer the whole request. Must not raise, and what is awaited must not either."""
        ...

    def overflow(self, body: bytes) -> Answer:
        """Answer a request of which no more than `body` is kept."""
        ...


class Application(Protocol):
    """What stands behind a server."""

    def route(self, head: Head) -> Route:
        """Return who answers a request; called once for each different field section."""
        ...
