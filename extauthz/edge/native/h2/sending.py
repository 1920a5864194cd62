"""The sending side of a connection: answers within the peer's windows, and one write for many frames."""

from __future__ import annotations

from asyncio import Transport
from collections.abc import Callable, Iterable

from extauthz.edge.native.h2 import frames
from extauthz.edge.native.h2.fields import EMPTY_TABLE
from extauthz.edge.native.h2.frames import MAX_WINDOW, ConnectionFault, ErrorCode, StreamFault
from extauthz.edge.native.h2.message import Response
from extauthz.edge.native.h2.stream import Stream

FLUSH_BYTES = 128 * 1024
"""So much is handed to the transport at once; it may say then that it is full."""


class Sender:
    """Sends frames. `left` is told each stream whose answer had to wait and has now gone out."""

    def __init__(self, transport: Transport, left: Callable[[Stream], None]) -> None:
        self._transport = transport
        self._left = left
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._window = frames.DEFAULT_WINDOW
        self._stream_window = frames.DEFAULT_WINDOW
        self._table_bytes = frames.DEFAULT_TABLE_BYTES
        self._empty_table = False
        self._waiting: dict[int, Stream] = {}  # for the connection's window only; others for their own

    def write(self, content: bytes) -> None:
        """Send whole frames, with the next flush."""
        self._out.append(content)
        self._out_bytes += len(content)
        if self._out_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the transport in one write."""
        if self._out:
            content = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self._transport.write(content)

    def respond(self, stream: Stream, response: Response) -> bool:
        """Send an answer. False: it waits for the peer's windows."""
        size = response.size
        if (
            size <= self._window
            and size <= self._stream_window + stream.window
            and response.parts
            and not self._empty_table
        ):
            self._window -= size
            stream.left = True
            self.write(stream.wire_id.join(response.parts))
            return True
        self.begin(stream, response.headers, end=not response.data and not response.trailers)
        return self.end(stream, response.data, response.trailers)

    def begin(self, stream: Stream, headers: bytes, *, end: bool = False) -> None:
        """Send response headers; with `end` they are all there is."""
        stream.left = end
        self._write_section(stream, headers, end=end)

    def end(self, stream: Stream, data: bytes, trailers: bytes) -> bool:
        """Send the last piece of an answer. False: some of it waits."""
        stream.trailers = trailers
        stream.ended = True
        return stream.left or self.send(stream, data)

    def send(self, stream: Stream, data: bytes) -> bool:
        """Send a piece of an answer, as far as the windows reach. True: the answer is over."""
        stream.unsent += data
        return self._advance(stream)

    def forget(self, stream: Stream) -> None:
        """Drop what a stream still had to send."""
        self._waiting.pop(stream.id, None)

    def widen(self, increment: int) -> None:
        """Take a WINDOW_UPDATE of the connection. Raises ConnectionFault."""
        self._window += increment
        if self._window > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
        for stream in list(self._waiting.values()):
            if self._window <= 0:
                break
            self._resume(stream)

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """Take a WINDOW_UPDATE of a stream. Raises StreamFault."""
        stream.window += increment
        if self._stream_window + stream.window > MAX_WINDOW:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR)
        self._resume(stream)

    def resize_streams(self, window: int, streams: Iterable[Stream]) -> None:
        """Take the peer's SETTINGS_INITIAL_WINDOW_SIZE. Raises ConnectionFault."""
        self._stream_window = window
        for stream in list(streams):
            if window + stream.window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window overflows")
            self._resume(stream)

    def resize_table(self, limit: int) -> None:
        """Take the peer's SETTINGS_HEADER_TABLE_SIZE. We use no table, but a smaller one must be acknowledged."""
        self._empty_table |= limit < self._table_bytes
        self._table_bytes = limit

    def _resume(self, stream: Stream) -> None:
        if stream.unsent and self._advance(stream):
            self._left(stream)

    def _advance(self, stream: Stream) -> bool:
        while stream.unsent:
            own = self._stream_window + stream.window
            room = min(self._window, own, frames.MAX_FRAME_BYTES)
            if room <= 0:
                if own > 0:
                    self._waiting[stream.id] = stream
                else:
                    self._waiting.pop(stream.id, None)
                return False
            self._write_data(stream, room)
        self._waiting.pop(stream.id, None)
        if stream.ended and stream.trailers:
            self._write_section(stream, stream.trailers, end=True)
        stream.left = stream.ended
        return stream.left

    def _write_data(self, stream: Stream, room: int) -> None:
        data, stream.unsent = stream.unsent[:room], stream.unsent[room:]
        self._window -= len(data)
        stream.window -= len(data)
        last = stream.ended and not stream.unsent and not stream.trailers
        self.write(frames.frame(frames.DATA, frames.END_STREAM if last else 0, stream.id, data))

    def _write_section(self, stream: Stream, section: bytes, *, end: bool) -> None:
        if self._empty_table:
            section = EMPTY_TABLE + section
            self._empty_table = False
        for frame in frames.header_block(stream.id, section, end=end, limit=frames.MAX_FRAME_BYTES):
            self.write(frame)
