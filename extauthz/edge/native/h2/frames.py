"""The frames of HTTP/2 (RFC 9113 section 6) as bytes, and the errors that end a stream or a connection."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
MAX_FRAME_BYTES = 16384
"""The payload that everybody must accept, and the most that we do: SETTINGS_MAX_FRAME_SIZE stays as it is."""
DEFAULT_WINDOW = 65535
DEFAULT_TABLE_BYTES = 4096
MAX_WINDOW = 2**31 - 1
MAX_STREAM_ID = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

SETTINGS_HEADER_TABLE_SIZE = 0x1
SETTINGS_ENABLE_PUSH = 0x2
SETTINGS_MAX_CONCURRENT_STREAMS = 0x3
SETTINGS_INITIAL_WINDOW_SIZE = 0x4
SETTINGS_MAX_FRAME_SIZE = 0x5
SETTINGS_MAX_HEADER_LIST_SIZE = 0x6

SETTINGS_ACK = b"\0\0\0\x04\x01\0\0\0\0"

frame_header = struct.Struct(">HBBBL")
"""Length (its high 16 and low 8 bits), type, flags, and the stream with its reserved bit."""
setting = struct.Struct(">HL")
_two_numbers = struct.Struct(">LL")


class ErrorCode(IntEnum):
    """Why something ends (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):
    """The connection cannot go on. The message is for the peer's log."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        self.code = code
        super().__init__(message)


class StreamFault(Exception):
    """One stream cannot go on."""

    def __init__(self, stream_id: int, code: ErrorCode) -> None:
        self.stream_id = stream_id
        self.code = code
        super().__init__(f"stream {stream_id}: {code.name}")


def start(kind: int, flags: int, length: int) -> bytes:
    """Return a frame's first 5 bytes: all that comes before the stream id."""
    return bytes((length >> 16, length >> 8 & 0xFF, length & 0xFF, kind, flags))


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return a whole frame."""
    return start(kind, flags, len(payload)) + stream_id.to_bytes(4, "big") + payload


def header_block(stream_id: int, block: bytes, *, end: bool, limit: int) -> Iterator[bytes]:
    """Yield the frames of a field block: HEADERS, and CONTINUATION for what exceeds `limit` bytes."""
    kind, flags = HEADERS, END_STREAM if end else 0
    while len(block) > limit:
        yield frame(kind, flags, stream_id, block[:limit])
        kind, flags, block = CONTINUATION, 0, block[limit:]
    yield frame(kind, flags | END_HEADERS, stream_id, block)


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(setting.pack(*item) for item in values.items()))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def goaway(last_stream_id: int, code: ErrorCode, message: str = "") -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _two_numbers.pack(last_stream_id, code) + message.encode())


def window_update(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def ping(payload: bytes, flags: int = 0) -> bytes:
    """Return a PING frame; `payload` has 8 bytes."""
    return frame(PING, flags, 0, payload)
