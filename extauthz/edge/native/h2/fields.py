"""Field sections: HPACK (RFC 7541) in and out, and what makes a request malformed (RFC 9113 section 8).

We announce a dynamic table of size 0. Once the peer has said that its table is empty, the same
bytes always are the same field, so what has been seen before is known at once: a whole section,
or at least its fields. All else goes through the `hpack` package. A peer that acknowledges the
setting and goes on using its table (h2spec does) is in the wrong, but is understood.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import hpack

from extauthz.edge.native.h2.frames import ConnectionFault, ErrorCode

Field = tuple[bytes, bytes]

FIELD_OVERHEAD = 32
"""What each field counts beside its bytes (RFC 9113 section 6.5.2)."""
MAX_KNOWN_SECTIONS = 64
MAX_KNOWN_FIELDS = 512
MAX_KNOWN_BYTES = 1024
"""Larger sections and fields are decoded anew each time."""
EMPTY_TABLE = b"\x20"
"""What a section starts with to say that its sender's table is now empty."""

_NAME = re.compile(rb":?[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?")
_REQUIRED = (b":method", b":scheme", b":path")
_PSEUDO = frozenset({*_REQUIRED, b":authority"})
_CONNECTION_SPECIFIC = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_TABLE_SIZE = 0x20
"""The highest 3 bits of a dynamic table size update."""
_Value = TypeVar("_Value")
_Route = TypeVar("_Route")

logging.getLogger("hpack").setLevel(logging.INFO)  # its debug messages hold credentials


class Malformed(Exception):
    """The request breaks a rule of HTTP/2; the connection goes on."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A request without its body. Names have lower case; `fields` are in order, with repetitions."""

    method: str
    path: str
    authority: str
    fields: tuple[tuple[str, str], ...]
    content_length: int | None = None

    def get(self, name: str) -> str:
        """Return the values of a field, joined by commas; empty where it is absent."""
        return ",".join(value for key, value in self.fields if key == name)


class FieldDecoder(Generic[_Route]):
    """Decodes the field sections of one connection, in their order; `route` judges each new request."""

    def __init__(self, route: Callable[[Head], _Route], max_bytes: int) -> None:
        self._route = route
        self._max_bytes = max_bytes
        self._decoder = hpack.Decoder(max_bytes)
        self._agreed = False
        self._stateless = False
        self._fields: dict[bytes, list[Field]] = {}
        self._requests: dict[bytes, tuple[Head, _Route]] = {}

    def agree(self) -> None:
        """Expect the peer to give up its dynamic table, as its acknowledgment of our settings promises."""
        self._agreed = True

    def request(self, section: bytes) -> tuple[Head, _Route]:
        """Return the request that a section describes, with its route. Raises Malformed and ConnectionFault."""
        known = self._requests.get(section)
        if known is None:
            lasting = self._stateless and len(section) <= MAX_KNOWN_BYTES
            head = head_of(self.fields(section))
            known = head, self._route(head)
            if lasting:
                _remember(self._requests, section, known, MAX_KNOWN_SECTIONS)
        return known

    def fields(self, section: bytes) -> list[Field]:
        """Return all fields of a section. Raises ConnectionFault."""
        if not self._stateless and self._agreed and section[:1] and section[0] & 0xE0 == _TABLE_SIZE:
            self._decoder.max_allowed_table_size = 0
            self._stateless = True
        return self._one_by_one(section) if self._stateless else self._decode(section)

    def _one_by_one(self, section: bytes) -> list[Field]:
        fields: list[Field] = []
        size = 0
        for piece in split(section):
            known = self._fields.get(piece)
            if known is None:
                known = self._decode(piece)
                if len(piece) <= MAX_KNOWN_BYTES:
                    _remember(self._fields, piece, known, MAX_KNOWN_FIELDS)
            if fields and not known:
                raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a table size update after a field")
            for name, value in known:
                size += len(name) + len(value) + FIELD_OVERHEAD
            if size > self._max_bytes:
                raise _too_large()
            fields += known
        return fields

    def _decode(self, section: bytes) -> list[Field]:
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(section, raw=True)]
        except hpack.OversizedHeaderListError:
            raise _too_large() from None
        except hpack.HPACKError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "the field section cannot be decoded") from None


def split(section: bytes) -> list[bytes]:
    """Cut a section into its fields and table size updates, as bytes. A cut-off field stays cut off."""
    pieces = []
    at, end = 0, len(section)
    try:
        while at < end:
            start, first = at, section[at]
            if first & 0x80:
                at = _integer(section, at, 0x7F)[1]
            elif first & 0xE0 == _TABLE_SIZE:
                at = _integer(section, at, 0x1F)[1]
            else:
                name, at = _integer(section, at, 0x3F if first & 0x40 else 0x0F)
                if name == 0:
                    length, at = _integer(section, at, 0x7F)
                    at += length
                length, at = _integer(section, at, 0x7F)
                at += length
            pieces.append(section[start:at])
    except IndexError:
        pieces.append(section[start:])
    return pieces


def _integer(section: bytes, at: int, mask: int) -> tuple[int, int]:
    """Read an integer (RFC 7541 section 5.1); return it with the place of what follows."""
    number = section[at] & mask
    at += 1
    if number < mask:
        return number, at
    for shift in range(0, 35, 7):
        byte = section[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "an integer is too long")


def head_of(fields: Iterable[Field]) -> Head:
    """Return the request that fields describe. Raises Malformed."""
    pseudo: dict[bytes, str] = {}
    regular: list[tuple[str, str]] = []
    for name, value in fields:
        _check(name, value)
        text = value.decode("utf-8", "surrogateescape")
        if name[0] != 0x3A:  # ":"
            regular.append((name.decode("ascii"), text))
        elif regular or name in pseudo or name not in _PSEUDO:
            raise Malformed("a pseudo field is repeated, unknown or out of place")
        else:
            pseudo[name] = text
    if any(not pseudo.get(name) for name in _REQUIRED):
        # This refuses CONNECT too, which has no path and nothing to be checked.
        raise Malformed("a pseudo field is missing or empty")
    length = _content_length(regular)
    return Head(pseudo[b":method"], pseudo[b":path"], pseudo.get(b":authority", ""), tuple(regular), length)


def check_trailers(fields: Iterable[Field]) -> None:
    """Raises Malformed where fields may not come after the body."""
    for name, value in fields:
        _check(name, value)
        if name[0] == 0x3A:
            raise Malformed("a pseudo field in the trailers")


def _check(name: bytes, value: bytes) -> None:
    if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise Malformed("a field holds a forbidden character")
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
        raise Malformed("a field belongs to HTTP/1 connections")


def _content_length(fields: Iterable[tuple[str, str]]) -> int | None:
    lengths = {value for name, value in fields if name == "content-length"}
    if not lengths:
        return None
    value = lengths.pop()
    if lengths or not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise Malformed("the content-length is not one number")
    return int(value)


def encode(fields: Iterable[Field]) -> bytes:
    """Return fields as literals without indexing, which need no state on either side."""
    encoded = bytearray()
    for name, value in fields:
        encoded += b"\0" + _length(len(name)) + name + _length(len(value)) + value
    return bytes(encoded)


def _length(number: int) -> bytes:
    """Return the length of a string without Huffman code: an integer with a prefix of 7 bits."""
    if number < 0x7F:
        return bytes((number,))
    encoded, number = bytearray(b"\x7f"), number - 0x7F
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _too_large() -> ConnectionFault:
    # A section that was not decoded to its end leaves nothing to go on with.
    return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the field section is too large")


def _remember(known: dict[bytes, _Value], key: bytes, value: _Value, limit: int) -> None:
    if len(known) >= limit:
        known.clear()
    known[key] = value
