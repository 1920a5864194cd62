"""A connection (RFC 9113): frames in, and how it begins and ends.

Promises: all that one read brings is answered in one write; a peer costs no more memory and
time than `Limits` say, and whoever wants more loses its own connection only; a peer that
does not read is not read from; a drained connection answers every request that it has taken.
"""

from __future__ import annotations

import asyncio
import logging

from extauthz.edge.native.h2 import frames
from extauthz.edge.native.h2.control import Control, check_priority
from extauthz.edge.native.h2.frames import MAX_STREAM_ID, ConnectionFault, ErrorCode, StreamFault
from extauthz.edge.native.h2.limits import Account, Limits
from extauthz.edge.native.h2.message import Application
from extauthz.edge.native.h2.sending import Sender
from extauthz.edge.native.h2.stream import Stream
from extauthz.edge.native.h2.streams import Streams
from extauthz.edge.native.peer import PeerProtocol
from extauthz.edge.native.server import Connections

DRAINED, ALIVE = b"drained?", b"present?"
"""What our two kinds of PING carry."""

_logger = logging.getLogger(__name__)


class Connection(PeerProtocol):
    """Serves one connection, from its preface on."""

    _sender: Sender
    _streams: Streams
    _control: Control

    def __init__(self, application: Application, limits: Limits, connections: Connections) -> None:
        super().__init__(connections, send_seconds=limits.send_seconds)
        self._application = application
        self._limits = limits
        self._account = Account(limits.max_overhead)
        self._buffer = b""
        self._greeted = False
        self._section: tuple[int, int, bytearray] | None = None
        self._fragments = 0
        self._window = limits.connection_window
        self._flush_planned = False
        self._draining = False
        self._heard = False
        self._made = self._last_heard = self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._sender = Sender(self.transport, self._left)
        self._streams = Streams(self._application, self._limits, self._account, self._sender, self._flush_soon)
        self._streams.now = self._made
        self._control = Control(self._streams, self._sender, self._account, header_table=self._limits.header_table)
        if not self.closing:
            self._greet()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._streams.cancel()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self._heard = True
        self._buffer = self._buffer + data if self._buffer else data
        self.work()

    def tick(self, now: float) -> None:
        """Begin a new second: refill the account, and end what takes too long."""
        super().tick(now)
        if self.closing:
            return
        self._account.refill()
        self._streams.now = now
        self._streams.expire()
        if self._draining:
            self._go_away()
        if self._heard or self.full:
            self._heard = False
            self._last_heard = now
        self._judge(now)
        self._finish()

    def drain(self) -> None:
        """Announce the end. It becomes final once the peer has heard of it (RFC 9113 section 6.8)."""
        self._draining = True
        if not self.closing:
            self._sender.write(frames.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR) + frames.ping(DRAINED))
            self._sender.flush()

    def _greet(self) -> None:
        limits = self._limits
        announced = {
            frames.SETTINGS_HEADER_TABLE_SIZE: frames.DEFAULT_TABLE_BYTES if limits.header_table else 0,
            frames.SETTINGS_MAX_CONCURRENT_STREAMS: limits.max_streams,
            frames.SETTINGS_INITIAL_WINDOW_SIZE: limits.stream_window,
            frames.SETTINGS_MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
        }
        more = limits.connection_window - frames.DEFAULT_WINDOW
        self._sender.write(frames.settings(announced) + frames.window_update(0, more))
        self._sender.flush()
        if self.connections.draining:
            self.drain()

    def _judge(self, now: float) -> None:
        """End a connection that does not begin, or that has gone silent."""
        limits, silent = self._limits, now - self._last_heard
        if not self._control.settled and now - self._made > limits.arrive_seconds:
            self._fail(ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "the handshake takes too long"))
        elif silent > limits.ping_seconds + limits.arrive_seconds:
            self.abort()
        elif silent > limits.ping_seconds:
            self._sender.write(frames.ping(ALIVE))

    def work(self) -> None:
        """Read as many frames as there are and as the peer takes answers for; then write."""
        try:
            self._read()
        except ConnectionFault as fault:
            self._fail(fault)
        except Exception:
            _logger.exception("a connection failed")
            self._fail(ConnectionFault(ErrorCode.INTERNAL_ERROR, ""))
        else:
            self._finish()

    def _read(self) -> None:
        data = self._buffer
        at, end = self._preface(data), len(data)
        unpack = frames.frame_header.unpack_from
        while end - at >= frames.HEADER_BYTES and self._greeted and not self.full:
            high, low, kind, flags, stream_id = unpack(data, at)
            begin = at + frames.HEADER_BYTES
            length = high << 8 | low
            if length > frames.MAX_FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is too long")
            if begin + length > end:
                break
            at = begin + length
            try:
                self._frame(kind, flags, stream_id & MAX_STREAM_ID, data[begin:at])
            except StreamFault as fault:
                self._account.charge()  # a reset that the peer provokes is worth its own: CVE-2025-8671
                self._streams.fault(fault)
        self._buffer = data[at:]

    def _preface(self, data: bytes) -> int:
        """Return where the frames begin: behind the preface where it comes now, with the SETTINGS that end it."""
        if self._greeted:
            return 0
        size = len(frames.PREFACE)
        if not data.startswith(frames.PREFACE[: len(data)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 connection preface")
        if len(data) < size + frames.HEADER_BYTES:
            return 0
        _, _, kind, flags, _ = frames.frame_header.unpack_from(data, size)
        if kind != frames.SETTINGS or flags & frames.ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection preface ends without SETTINGS")
        self._greeted = True
        return size

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._section is not None or kind == frames.CONTINUATION:
            self._continue(kind, flags, stream_id, payload)
        elif kind == frames.DATA:
            self._data(flags, stream_id, payload)
        elif kind == frames.HEADERS:
            self._headers(flags, stream_id, payload)
        elif self._control.take(kind, flags, stream_id, payload) == DRAINED and self._draining:
            self._go_away()

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        received = len(payload)
        self._window -= received
        if self._window < self._limits.connection_window // 2:
            self._widen()
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        self._streams.data(stream_id, payload, received, end=flags & frames.END_STREAM != 0)

    def _widen(self) -> None:
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._sender.write(frames.window_update(0, self._limits.connection_window - self._window))
        self._window = self._limits.connection_window

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that no client begins")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.PRIORITY_FLAG:
            check_priority(stream_id, payload[:5])
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._streams.section(stream_id, payload, end=flags & frames.END_STREAM != 0)
        else:
            self._section, self._fragments = (stream_id, flags, bytearray(payload)), 1

    def _continue(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._section is None or kind != frames.CONTINUATION or stream_id != self._section[0]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a field section is interrupted or has no beginning")
        self._fragments += 1
        _, first_flags, section = self._section
        section += payload
        if self._fragments > self._limits.max_fragments or len(section) > self._limits.max_header_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the field section is too large")
        if flags & frames.END_HEADERS:
            self._section = None
            self._streams.section(stream_id, bytes(section), end=first_flags & frames.END_STREAM != 0)

    def _left(self, stream: Stream) -> None:
        self._streams.left(stream)

    def _flush_soon(self) -> None:
        """Write what was answered outside of a read, together with what else is answered in this turn of the loop."""
        if not self._flush_planned:
            self._flush_planned = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        self._finish()

    def _go_away(self) -> None:
        """Take no further streams: the second step of draining."""
        if self._streams.final_id == MAX_STREAM_ID:
            self._streams.final_id = self._streams.last_id
            self._sender.write(frames.goaway(self._streams.last_id, ErrorCode.NO_ERROR))

    def _finish(self) -> None:
        """Write; and end where that was the last answer of a connection that goes away."""
        if self.closing:
            return
        self._sender.flush()
        if self._streams.final_id != MAX_STREAM_ID and not self._streams.open:
            self.end()

    def _fail(self, fault: ConnectionFault) -> None:
        self._streams.cancel()
        self._sender.write(frames.goaway(self._streams.last_id, fault.code, str(fault)))
        self._sender.flush()
        self.end()


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
