"""The frames that carry no request: what the peer sets and signals (RFC 9113 section 6)."""

from __future__ import annotations

from extauthz.edge.native.h2 import frames
from extauthz.edge.native.h2.frames import MAX_STREAM_ID, MAX_WINDOW, ConnectionFault, ErrorCode, StreamFault
from extauthz.edge.native.h2.limits import Account
from extauthz.edge.native.h2.sending import Sender
from extauthz.edge.native.h2.streams import Streams

_LENGTHS = {frames.PRIORITY: 5, frames.RST_STREAM: 4, frames.PING: 8, frames.WINDOW_UPDATE: 4}
_OF_CONNECTION = frozenset({frames.SETTINGS, frames.PING, frames.GOAWAY})
_OF_STREAM = frozenset({frames.PRIORITY, frames.RST_STREAM})
_STREAMS_PER_CHARGE = 16


class Control:
    """Takes control frames; each is charged for."""

    def __init__(self, streams: Streams, sender: Sender, account: Account, *, header_table: bool) -> None:
        self._streams = streams
        self._sender = sender
        self._account = account
        self._header_table = header_table
        self.settled = False
        """Whether the peer has acknowledged our settings."""

    def take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
        """Take a frame; return what an acknowledged PING carried. Raises ConnectionFault and StreamFault."""
        self._account.charge()
        _check(kind, flags, stream_id, payload)
        if kind == frames.WINDOW_UPDATE:
            self._window_update(stream_id, payload)
        elif kind == frames.RST_STREAM:
            self._streams.reset(stream_id)
        elif kind == frames.SETTINGS:
            self._settings(flags, payload)
        elif kind == frames.PING:
            if flags & frames.ACK:
                return payload
            self._sender.write(frames.ping(payload, frames.ACK))
        elif kind == frames.PRIORITY:
            check_priority(stream_id, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "clients promise nothing")
        return b""

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        increment = int.from_bytes(payload, "big") & MAX_WINDOW
        if not stream_id:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
            self._sender.widen(increment)
        elif increment:
            self._streams.widen(stream_id, increment)
        else:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR)

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            self._acknowledged()
            return
        self._sender.write(frames.SETTINGS_ACK)  # before anything that the new settings set free
        for identifier, value in frames.setting.iter_unpack(payload):
            self._setting(identifier, value)

    def _acknowledged(self) -> None:
        if not self.settled and not self._header_table:
            self._streams.decoder.agree()
        self.settled = True

    def _setting(self, identifier: int, value: int) -> None:
        self._account.charge()
        if identifier == frames.SETTINGS_INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the initial window is too large")
            self._account.charge(len(self._streams.open) // _STREAMS_PER_CHARGE)
            self._sender.resize_streams(value, self._streams.open.values())
        elif identifier == frames.SETTINGS_MAX_FRAME_SIZE:
            if not frames.MAX_FRAME_BYTES <= value < 1 << 24:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame size that cannot be")
        elif identifier == frames.SETTINGS_HEADER_TABLE_SIZE:
            self._sender.resize_table(value)
        elif identifier == frames.SETTINGS_ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")


def check_priority(stream_id: int, payload: bytes) -> None:
    """Refuse a stream that depends on itself (RFC 7540 section 5.3.1). Raises ConnectionFault."""
    if len(payload) < _LENGTHS[frames.PRIORITY]:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a priority is cut off")
    if int.from_bytes(payload[:4], "big") & MAX_STREAM_ID == stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")


def _check(kind: int, flags: int, stream_id: int, payload: bytes) -> None:
    length = _LENGTHS.get(kind)
    if length is not None and len(payload) != length:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame of a fixed size has another one")
    if kind == frames.SETTINGS and (len(payload) % 6 or (payload and flags & frames.ACK)):
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS frame has a wrong size")
    if (kind in _OF_CONNECTION and stream_id) or (kind in _OF_STREAM and not stream_id):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame has come on the wrong stream")
