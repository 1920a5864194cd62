"""gRPC over HTTP/2 for calls with one request message: what is read from a call, and what it is answered.

Messages may come compressed with gzip; answers never are. The rules are those of gRPC's
`PROTOCOL-HTTP2.md`.
"""

from __future__ import annotations

import re
import zlib
from enum import IntEnum
from urllib.parse import quote

from extauthz.edge.native.h2.fields import Head, encode
from extauthz.edge.native.h2.message import Response

PREFIX_BYTES = 5
IDENTITY, GZIP = "identity", "gzip"

_STATUS_200 = b"\x88"
_HEADERS = _STATUS_200 + encode(((b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity,gzip")))
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_GZIP_WINDOW = 31


class Status(IntEnum):
    """The gRPC status codes that are used."""

    OK = 0
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Unreadable(Exception):
    """The body of a call does not hold one message."""

    def __init__(self, status: Status, message: str) -> None:
        self.status = status
        super().__init__(message)


def is_grpc(head: Head) -> bool:
    """Whether a request says that it is a gRPC call."""
    kind = head.get("content-type").lower()
    return kind == "application/grpc" or kind.startswith(("application/grpc+", "application/grpc;"))


def timeout(head: Head) -> float | None:
    """Return how many seconds the caller waits; None where it does not say, or not understandably."""
    found = _TIMEOUT.fullmatch(head.get("grpc-timeout"))
    return int(found[1]) * _SECONDS[found[2]] if found else None


def message(body: bytes, encoding: str, *, limit: int) -> bytes:
    """Return the one message of a body, with at most `limit` bytes. Raises Unreadable."""
    if len(body) < PREFIX_BYTES or int.from_bytes(body[1:PREFIX_BYTES], "big") != len(body) - PREFIX_BYTES:
        raise Unreadable(Status.INTERNAL, "The call does not hold exactly one message.")
    if body[0] == 0:
        return body[PREFIX_BYTES:]
    if body[0] != 1 or encoding == IDENTITY:
        raise Unreadable(Status.INTERNAL, "The message is flagged as compressed, and is not.")
    if encoding != GZIP:
        raise Unreadable(Status.UNIMPLEMENTED, "The message is compressed in an unknown way.")
    return _unzipped(body[PREFIX_BYTES:], limit)


def _unzipped(packed: bytes, limit: int) -> bytes:
    unzip = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = unzip.decompress(packed, limit + 1)
    except zlib.error:
        raise Unreadable(Status.INTERNAL, "The message cannot be decompressed.") from None
    if len(content) > limit:
        raise Unreadable(Status.RESOURCE_EXHAUSTED, "The message is too large.")
    if not unzip.eof or unzip.unused_data:
        raise Unreadable(Status.INTERNAL, "The message cannot be decompressed.")
    return content


def framed(content: bytes) -> bytes:
    """Return a message with its prefix."""
    return b"\0" + len(content).to_bytes(4, "big") + content


def answered(content: bytes) -> Response:
    """Return the response to a call that succeeded."""
    return Response(_HEADERS, framed(content), trailers(Status.OK))


def ended(status: Status, text: str) -> Response:
    """Return the response to a call that failed."""
    return Response(_HEADERS + trailers(status, text))


def trailers(status: Status, text: str = "") -> bytes:
    """Return the encoded trailers of a response."""
    fields = [(b"grpc-status", b"%d" % status)]
    if text:
        fields.append((b"grpc-message", quote(text, safe=" ").encode()))
    return encode(fields)


STREAM_HEADERS = _HEADERS
"""The encoded headers of a response in pieces."""
