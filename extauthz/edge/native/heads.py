"""Keys for HTTP/1 requests from their bytes alone, so that one asked before need not be parsed.

A request with a body has none. Of all others, the key holds the request line and each header
line in its order, save those that provably change nothing: plain lines (one token, a colon, a
space and printable ASCII, which every parser reads alike) of a header that no decision reads
and that says nothing about the message itself. Only a request that the parser took whole, from
these very bytes, is ever remembered; so what has its key would be taken in the same way.

Most requests differ from one before in nothing but their id: such a head is found whole, by what
is before and behind the id, without a look at its lines.
"""

from __future__ import annotations

import re

from extauthz.edge.native.memory import Key
from extauthz.edge.native.requests import Incoming

MAX_HEAD_BYTES = 32 * 1024
MAX_LINES = 100
"""Longer heads, which count against the parser's limits, have no key."""
MAX_INERT = 1024
MAX_INERT_BYTES = 256
"""Lines that change nothing: how many are known, and how long one may be. Longer ones count, whatever they hold."""
MAX_WHOLE = 1024
MAX_WHOLE_BYTES = 4096
"""Heads that are found whole: how many are known, and how long one may be."""

REQUEST_ID = b"x-request-id: "
_ID_LINE = b"\r\n" + REQUEST_ID
_MAX_ID_BYTES = MAX_INERT_BYTES - len(REQUEST_ID)

_FRAMING = frozenset(
    {
        *(b"connection", b"content-length", b"expect", b"host", b"http2-settings", b"keep-alive"),
        *(b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
"""What says how to read the message, or what becomes of the connection."""
_PLAIN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+: (?:[!-~](?:[ -~]*[!-~])?)?")


class HeadKeys:
    """Makes keys of heads."""

    def __init__(self) -> None:
        self._telling = _FRAMING
        self._inert: set[bytes] = set()
        self._whole: dict[tuple[bytes, bytes], Key] = {}

    def expect(self, names: frozenset[str], groups: frozenset[str]) -> None:
        """Take all lines of these headers into keys from now on."""
        self._telling = _FRAMING | {name.encode() for name in names | groups}
        self._inert.clear()
        self._whole.clear()

    def of(self, asked: Incoming) -> Key | None:
        """Return the key of a request, and remember its inert lines; one that ends its connection has none."""
        found = self._by_lines(asked.head)
        if found is None or asked.content or asked.last:
            return None
        if len(self._inert) >= MAX_INERT:
            self._inert.clear()
        for line in asked.head[:-4].split(b"\r\n")[1:]:
            if line not in self._inert and self._is_inert(line):
                self._inert.add(line)
        self._remember(asked.head, found[0])
        return found[0]

    def of_head(self, head: bytes) -> tuple[Key, bytes] | None:
        """Return the key of a head, and the request id in it; None where it has none."""
        around, request_id = _cut(head)
        known = self._whole.get(around)
        if known is not None and _is_id(request_id):
            return known, request_id
        return self._by_lines(head)

    def _remember(self, head: bytes, key: Key) -> None:
        """Find further heads whole that differ from this in nothing but their id, where that changes nothing."""
        if len(head) > MAX_WHOLE_BYTES or head.count(_ID_LINE) != 1:
            return
        around, request_id = _cut(head)
        if not self._is_inert(REQUEST_ID + request_id):
            return
        if len(self._whole) >= MAX_WHOLE:
            self._whole.clear()
        self._whole[around] = key

    def _by_lines(self, head: bytes) -> tuple[Key, bytes] | None:
        if head[-4:] != b"\r\n\r\n" or len(head) > MAX_HEAD_BYTES:
            return None
        request, *lines = head[:-4].split(b"\r\n")
        if len(lines) > MAX_LINES:
            return None
        if b"" in lines:
            return None  # the head ends before: what follows is a body or another request
        inert, request_id = self._inert, b""
        key: list[bytes] = [request]
        for line in [line for line in lines if line not in inert]:
            if line.startswith(REQUEST_ID):
                request_id = line[len(REQUEST_ID) :]
            if not self._is_inert(line):
                key.append(line)
        return tuple(key), request_id

    def _is_inert(self, line: bytes) -> bool:
        if len(line) > MAX_INERT_BYTES or line.partition(b":")[0].lower() in self._telling:
            return False
        return _PLAIN.fullmatch(line) is not None


def _cut(head: bytes) -> tuple[tuple[bytes, bytes], bytes]:
    """Return what is before and behind the id in a head, and the id."""
    begin = head.find(_ID_LINE) + len(_ID_LINE)
    end = head.find(b"\r\n", begin)
    return (head[:begin], head[end:]), head[begin:end]


def _is_id(text: bytes) -> bool:
    """Whether this is one plain line's value that nobody could read in two ways: letters, digits and dashes."""
    return text.replace(b"-", b"").isalnum() and len(text) <= _MAX_ID_BYTES
