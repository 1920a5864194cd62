"""From the bytes of an HTTP/1 connection to whole requests, and the refusal of everything ambiguous.

httptools refuses most of it itself: two lengths, a length beside chunks, bad chunks, folded lines,
bare line feeds, spaces before a colon, control characters. What it lets pass is refused here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import httptools

from extauthz.edge.asked import Asked

MAX_KNOWN_NAMES = 512
MAX_REPETITIONS = 100

_names: dict[bytes, str] = {}


@dataclass(frozen=True, slots=True)
class Http1Limits:
    """The bounds of each connection; times in seconds, sizes in bytes. Envoy never reaches them."""

    max_head_bytes: int = 128 * 1024
    """The request line and all header lines; exceeded by no more than one read."""
    max_headers: int = 256
    """How many different headers a request may have."""
    arrive_seconds: float = 10
    """How long a request may take from its first byte to its last."""
    send_seconds: float = 30
    """How long a peer may leave answers unread."""
    idle_seconds: float = 7200
    """How long a connection may rest; longer than Envoy keeps it, since a close may cross a request."""


class BadRequest(Exception):
    """What has come is no request that reads in one way only. `status` is the HTTP status to answer."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(slots=True)
class Incoming(Asked):
    """A request; its body is as much of it as was wanted."""

    last: bool = True
    """Whether the connection ends with it."""
    head: bytes = field(default=b"", compare=False)
    """All its bytes, where one read brought them and nothing else."""


class RequestReader:
    """Reads requests; those that are whole wait in `ready`. A None there asks for `100 Continue`."""

    def __init__(self, limits: Http1Limits, max_body_bytes: int) -> None:
        self.ready: deque[Incoming | None] = deque()
        self.begun = 0
        """How many requests have begun to arrive."""
        self.within = False
        """Whether a request has begun to arrive and is not whole."""
        self.ended = False
        """Whether nothing more may be read."""
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._fields: dict[str, str] = {}
        self._repetitions = 0
        self._head_bytes = 0
        self._in_head = False
        self._body = bytearray()

    @property
    def resting(self) -> bool:
        """Whether nothing has come that is not dealt with."""
        return not (self.within or self.ready or self.ended)

    def feed(self, data: bytes) -> None:
        """Read on. Raises BadRequest; requests that came whole before stay in `ready`."""
        if self.ended:
            return
        alone = self.resting
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is answered, the protocol is not changed, and what follows it has no meaning.
            self.ended = True
        except httptools.HttpParserCallbackError as error:
            raise (error.__context__ or error) from None  # what a method below has raised
        except httptools.HttpParserError as error:
            raise BadRequest(400, str(error)) from None
        if alone and len(self.ready) == 1 and not self.within and self.ready[0]:
            self.ready[0].head = data
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.max_head_bytes:
                raise BadRequest(431, "the head of the request is too large")

    # httptools calls these.

    def on_message_begin(self) -> None:
        self.begun += 1
        self.within = self._in_head = True
        self._target = b""
        self._body = bytearray()
        self._fields = {}
        self._repetitions = self._head_bytes = 0

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        key = _names.get(name) or _name(name)
        try:
            text = value.decode().rstrip(" \t")
        except UnicodeDecodeError:
            text = value.decode("utf-8", "surrogateescape").rstrip(" \t")
        fields = self._fields
        if key in fields:
            self._repetitions += 1
            text = f"{fields[key]},{text}"
        fields[key] = text

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._headers = headers = self._fields
        self._fields = {}  # for the trailers, which have no say
        limits = self._limits
        if len(headers) > limits.max_headers or self._repetitions > MAX_REPETITIONS:
            raise BadRequest(431, "the request has too many headers")
        version = self._parser.get_http_version()
        if version != "1.1" and (version != "1.0" or "transfer-encoding" in headers):
            raise BadRequest(400, "the version of HTTP is not understood")
        if "host" not in headers and version == "1.1":
            raise BadRequest(400, "the request names no host")
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            raise BadRequest(400, "the transfer-encoding is not understood")
        if "expect" in headers and version == "1.1":
            self._expect(headers["expect"])

    def on_body(self, piece: bytes) -> None:
        if len(self._body) < self._max_body_bytes:
            self._body += piece[: self._max_body_bytes - len(self._body)]

    def on_message_complete(self) -> None:
        self.within = False
        last = not self._parser.should_keep_alive() or self._parser.should_upgrade()
        self.ended |= last
        target = self._target.decode("utf-8", "surrogateescape")
        method = self._parser.get_method().decode("ascii")
        self.ready.append(Incoming(method, target, self._headers, bytes(self._body), last=last))

    def _expect(self, expectation: str) -> None:
        if expectation.lower() != "100-continue":
            raise BadRequest(417, "only 100-continue can be expected")
        self.ready.append(None)


def _name(raw: bytes) -> str:
    name = raw.decode("ascii").lower()
    if len(_names) < MAX_KNOWN_NAMES:
        _names[raw] = name
    return name
