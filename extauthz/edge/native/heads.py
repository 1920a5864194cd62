"""Keys for HTTP/1 requests from their bytes alone, so that one asked before need not be parsed.

A request with a body has none. Of all others, the key holds the request line and each header
line in its order, save those that provably change nothing: plain lines (one token, a colon, a
space and printable ASCII, which every parser reads alike) of a header that no decision reads
and that says nothing about the message itself. Only a request that the parser took whole, from
these very bytes, is ever remembered; so what has its key would be taken in the same way.
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

REQUEST_ID = b"x-request-id: "

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

    def expect(self, names: frozenset[str], groups: frozenset[str]) -> None:
        """Take all lines of these headers into keys from now on."""
        self._telling = _FRAMING | {name.encode() for name in names | groups}
        self._inert.clear()

    def of(self, asked: Incoming) -> Key | None:
        """Return the key of a request, and remember its inert lines; one that ends its connection has none."""
        found = self.of_head(asked.head)
        if found is None or asked.content or asked.last:
            return None
        if len(self._inert) >= MAX_INERT:
            self._inert.clear()
        lines = asked.head[:-4].split(b"\r\n")[1:]
        self._inert.update(filter(self._is_inert, lines))
        return found[0]

    def of_head(self, head: bytes) -> tuple[Key, bytes] | None:
        """Return the key of a head, and the request id in it; None where it has none."""
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
