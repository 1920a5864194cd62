"""The streams of a connection: requests are put together, handed to the application, and answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from extauthz.edge.native.h2 import frames
from extauthz.edge.native.h2.fields import FieldDecoder, Malformed, check_trailers
from extauthz.edge.native.h2.frames import MAX_STREAM_ID, ConnectionFault, ErrorCode, StreamFault
from extauthz.edge.native.h2.limits import Account, Limits
from extauthz.edge.native.h2.message import Answer, Application, Response, Route, Streaming
from extauthz.edge.native.h2.sending import Sender
from extauthz.edge.native.h2.stream import Stream

MAX_REMEMBERED = 256
"""How many streams that we reset are remembered: frames for them may still be under way."""
MAX_GAPS = 16
"""How many ranges of ids that the peer left out are remembered, only to name its error rightly."""

_logger = logging.getLogger(__name__)


class Streams:
    """All streams that are not over. `flush_soon` is called when an answer leaves outside of a read."""

    def __init__(
        self, application: Application, limits: Limits, account: Account, sender: Sender, flush_soon: Callable[[], None]
    ) -> None:
        self.decoder: FieldDecoder[Route] = FieldDecoder(application.route, limits.max_header_bytes)
        self.open: dict[int, Stream] = {}
        self.last_id = 0
        """The highest stream that the peer has begun."""
        self.final_id = MAX_STREAM_ID
        """Streams above this one are not answered: the connection is going away."""
        self.now = 0.0
        """The time, in monotonic seconds, as of the last tick."""
        self._limits = limits
        self._account = account
        self._sender = sender
        self._flush_soon = flush_soon
        self._buffered = 0
        self._reset: dict[int, None] = {}
        self._gaps: list[range] = []

    def section(self, stream_id: int, section: bytes, *, end: bool) -> None:
        """Take a whole field section: a new request, or the trailers of one."""
        stream = self.open.get(stream_id)
        if stream is not None:
            self._trailers(stream, section, end=end)
        elif stream_id > self.last_id:
            self._begin(stream_id, section, end=end)
        else:
            self._late(stream_id)
            self.decoder.fields(section)

    def data(self, stream_id: int, payload: bytes, received: int, *, end: bool) -> None:
        """Take a piece of a body; `received` counts its padding too."""
        stream = self.open.get(stream_id)
        if stream is None:
            self._check_begun(stream_id)
            return self._late(stream_id)
        if stream.arrived:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED)
        if stream.expected is not None:
            stream.expected -= len(payload)
            if stream.expected < 0:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR)
            if end:
                self._check_whole(stream)
        if end and not stream.body and not stream.discarding and len(payload) <= stream.route.max_body:
            return self._arrived(stream, payload)
        self._append(stream, payload, received, end=end)
        return None

    def reset(self, stream_id: int) -> None:
        """Take a RST_STREAM: whatever was being done for the stream stops."""
        self._account.charge()
        self._check_begun(stream_id)
        self._drop(stream_id)

    def widen(self, stream_id: int, increment: int) -> None:
        """Take a WINDOW_UPDATE of a stream."""
        self._check_begun(stream_id)
        if stream := self.open.get(stream_id):
            self._sender.widen_stream(stream, increment)

    def fault(self, fault: StreamFault) -> None:
        """End a stream with an error."""
        self._drop(fault.stream_id)
        self._reset[fault.stream_id] = None
        if len(self._reset) > MAX_REMEMBERED:
            del self._reset[next(iter(self._reset))]
        self._sender.write(frames.rst_stream(fault.stream_id, fault.code))

    def expire(self) -> None:
        """End the streams that take too long to arrive, or whose answers take too long to leave."""
        limits, now = self._limits, self.now
        for stream in list(self.open.values()):
            age = now - stream.opened
            if (not stream.arrived and age > limits.arrive_seconds) or (stream.unsent and age > limits.send_seconds):
                self.fault(StreamFault(stream.id, ErrorCode.CANCEL))

    def left(self, stream: Stream) -> None:
        """Note that an answer that had to wait has gone out."""
        if stream.arrived:
            self.open.pop(stream.id, None)

    def cancel(self) -> None:
        """Stop all work."""
        for stream in self.open.values():
            stream.cancel()
        self.open.clear()

    def _begin(self, stream_id: int, section: bytes, *, end: bool) -> None:
        expected = self.last_id + 2 if self.last_id else 1
        if stream_id != expected:
            self._gaps = [*self._gaps[-MAX_GAPS:], range(expected, stream_id, 2)]
        self.last_id = stream_id
        try:
            head, route = self.decoder.request(section)
        except Malformed:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR) from None
        if stream_id > self.final_id:
            return
        if len(self.open) >= self._limits.max_streams:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM)
        stream = self.open[stream_id] = Stream(stream_id, route, head.content_length, self.now)
        if end:
            self._check_whole(stream)
            self._arrived(stream, b"")

    def _trailers(self, stream: Stream, section: bytes, *, end: bool) -> None:
        fields = self.decoder.fields(section)
        if stream.arrived:
            raise StreamFault(stream.id, ErrorCode.STREAM_CLOSED)
        if not end:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR)
        try:
            check_trailers(fields)
        except Malformed:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR) from None
        self._check_whole(stream)
        self._append(stream, b"", 0, end=True)

    def _append(self, stream: Stream, payload: bytes, received: int, *, end: bool) -> None:
        if not end:
            self._credit(stream, received)
        if not stream.discarding:
            self._keep(stream, payload)
        if end and stream.discarding:
            stream.arrived = True
            if stream.left:
                self.open.pop(stream.id, None)
        elif end:
            self._buffered -= len(stream.body)
            self._arrived(stream, bytes(stream.body))

    def _credit(self, stream: Stream, received: int) -> None:
        if received < self._limits.small_data:
            self._account.charge()
        stream.received += received
        if stream.received > self._limits.stream_window:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR)
        if stream.received > self._limits.stream_window // 2:
            self._sender.write(frames.window_update(stream.id, stream.received))
            stream.received = 0

    def _keep(self, stream: Stream, payload: bytes) -> None:
        if stream.body:
            stream.body += payload
        else:
            stream.body = bytearray(payload)
        self._buffered += len(payload)
        if len(stream.body) > stream.route.max_body or self._buffered > self._limits.max_buffered_bytes:
            self._buffered -= len(stream.body)
            body, stream.body = bytes(stream.body), bytearray()
            stream.discarding = True
            self._answer(stream, stream.route.overflow(body))

    def _arrived(self, stream: Stream, body: bytes) -> None:
        stream.arrived = True
        stream.body = b""
        self._answer(stream, stream.route.answer(body))

    def _answer(self, stream: Stream, answer: Answer) -> None:
        if isinstance(answer, Response):
            self._account.balance += 1
            if self._sender.respond(stream, answer) and stream.arrived:
                del self.open[stream.id]
        else:
            stream.task = asyncio.get_running_loop().create_task(self._later(stream, answer))

    async def _later(self, stream: Stream, answer: Streaming | Awaitable[Response]) -> None:
        try:
            if isinstance(answer, Streaming):
                await self._stream(stream, answer)
            else:
                self._answer(stream, await answer)
        except Exception:
            _logger.exception("an answer failed")
            self.fault(StreamFault(stream.id, ErrorCode.INTERNAL_ERROR))
        self._flush_soon()

    async def _stream(self, stream: Stream, answer: Streaming) -> None:
        self._sender.begin(stream, answer.headers)
        self._flush_soon()
        async for piece in answer.pieces:
            self._sender.send(stream, piece)
            self._flush_soon()
        if self._sender.end(stream, b"", answer.trailers):
            self.left(stream)

    def _drop(self, stream_id: int) -> None:
        stream = self.open.pop(stream_id, None)
        if stream is not None:
            self._buffered -= len(stream.body)
            self._sender.forget(stream)
            stream.cancel()

    def _check_whole(self, stream: Stream) -> None:
        if stream.expected:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR)

    def _check_begun(self, stream_id: int) -> None:
        if stream_id > self.last_id or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame for a stream that has not begun")

    def _late(self, stream_id: int) -> None:
        """Judge a frame for a stream that is over: it may have crossed our RST_STREAM, or it is an error."""
        self._account.charge()
        if stream_id in self._reset or stream_id > self.final_id:
            return
        if any(stream_id in gap for gap in self._gaps):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream id is lower than the one before")
        raise ConnectionFault(ErrorCode.STREAM_CLOSED, "a frame for a stream that is over")
