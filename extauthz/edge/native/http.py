"""The native HTTP edge: Envoy's `http_service` mode over HTTP/1.1 and, on the same port, HTTP/2 in the clear."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from extauthz.decision import Decision
from extauthz.edge.asked import Asked
from extauthz.edge.http_service import Checks, reply_to
from extauthz.edge.listen import Bound, Listening
from extauthz.edge.native import http1
from extauthz.edge.native.answering import Answering
from extauthz.edge.native.either import EitherProtocol
from extauthz.edge.native.h2 import message as http2
from extauthz.edge.native.h2.connection import Connection
from extauthz.edge.native.h2.fields import Head, encode
from extauthz.edge.native.h2.limits import Limits
from extauthz.edge.native.heads import HeadKeys
from extauthz.edge.native.memory import FieldKeys
from extauthz.edge.native.requests import Http1Limits, Incoming, RequestReader
from extauthz.edge.native.server import Connections, Server
from extauthz.edge.reply import PLAIN, Refusals
from extauthz.errors import Refused
from extauthz.gateway import Gateway
from extauthz.request import Request
from extauthz.settings.listeners import HttpListener


class HttpEdge:
    """Serves checks over HTTP."""

    def __init__(
        self,
        gateway: Gateway,
        listener: HttpListener,
        *,
        max_body_bytes: int,
        refusals: Refusals = PLAIN,
        limits: Http1Limits | None = None,
        http2_limits: Limits | None = None,
        listening: Listening | None = None,
    ) -> None:
        """Without `listening` the listener's address is listened on."""
        checks = Checks(listener.path_prefix, max_body_bytes, peers_from=listener.peers_from)
        self._http1 = Http1Application(gateway, refusals, checks, max_body_bytes)
        self._http2 = Http2Application(gateway, refusals, checks, max_body_bytes)
        self._max_body_bytes = max_body_bytes
        self._limits = limits or Http1Limits()
        self._http2_limits = http2_limits or Limits()
        self._server = Server(listening or Bound(listener.address), self._serve)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Refuse new checks and finish those under way within `grace` seconds."""
        await self._server.stop(grace)

    def _serve(self, open_: Connections) -> EitherProtocol:
        limits, size = self._limits, self._max_body_bytes
        return EitherProtocol(
            open_,
            http1=lambda: http1.Http1Connection(self._http1, limits, open_, max_body_bytes=size),
            http2=lambda: Connection(self._http2, self._http2_limits, open_),
            arrive_seconds=limits.arrive_seconds,
        )


class Http1Application:
    """Checks over HTTP/1.1."""

    def __init__(self, gateway: Gateway, refusals: Refusals, checks: Checks, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._keys = HeadKeys()
        self._read = checks.read
        self._checks: Answering[Incoming, http1.Response] = Answering(
            gateway, keys=self._keys, read=self._read, render=partial(_http1_response, refusals)
        )
        self.answer = self._checks.decide

    def recall(self, head: bytes) -> http1.Response | None:
        """Return the answer to a whole request without a body, if it is known already."""
        found = self._keys.of_head(head)
        if found is None:
            return None
        key, request_id = found
        return self._checks.recall(key, request_id.decode(errors="replace"), partial(self._parsed, head))

    def _parsed(self, head: bytes) -> Request:
        reader = RequestReader(Http1Limits(), self._max_body_bytes)
        reader.feed(head)
        (asked,) = reader.ready
        if asked is None:
            raise ValueError("no request is in these bytes")
        return self._read(asked)

    def refuse(self, status: int) -> http1.Response:
        """Answer what is no request."""
        return http1.Response(status, (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store")))


class Http2Application:
    """Checks over HTTP/2."""

    def __init__(self, gateway: Gateway, refusals: Refusals, checks: Checks, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._checks: Answering[Asked, http2.Response] = Answering(
            gateway, keys=FieldKeys(), read=checks.read, render=partial(_http2_response, refusals)
        )
        self._bodiless: Answering[Asked, http2.Response] = Answering(
            gateway, keys=FieldKeys(), read=checks.read, render=partial(_http2_head, refusals)
        )

    def route(self, head: Head) -> Http2Check:
        """Return the check that a request is."""
        return Http2Check(head, self._bodiless if head.method == "HEAD" else self._checks, self._max_body_bytes)


class Http2Check:
    """One check."""

    __slots__ = ("_checks", "_head", "max_body")

    def __init__(self, head: Head, checks: Answering[Asked, http2.Response], max_body_bytes: int) -> None:
        self._head = head
        self._checks = checks
        self.max_body = max_body_bytes

    def answer(self, content: bytes) -> http2.Response | Awaitable[http2.Response]:
        """Answer it. A body that reaches the limit counts as truncated."""
        head, checks = self._head, self._checks
        try:
            headers = _joined(head)
        except Refused as error:
            return checks.refuse(error)
        return checks.answer(Asked(head.method, head.path, headers, content[: self.max_body]))

    overflow = answer


def _joined(head: Head) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in head.fields:
        joint = "; " if name == "cookie" else ","  # RFC 9113 section 8.2.3
        headers[name] = f"{headers[name]}{joint}{value}" if name in headers else value
    if head.authority and headers.setdefault("host", head.authority) != head.authority:
        raise Refused("host_ambiguous", "The request names two hosts.")
    return headers


def _http1_response(refusals: Refusals, decision: Decision, request: Request | None) -> http1.Response:
    told = reply_to(decision, request, refusals)
    return http1.Response(told.status, told.headers, told.body)


def _http2_response(refusals: Refusals, decision: Decision, request: Request | None) -> http2.Response:
    told = reply_to(decision, request, refusals)
    fields = [(":status", str(told.status)), *told.headers, ("content-length", str(len(told.body)))]
    encoded = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in fields]
    return http2.Response(encode(encoded), told.body)


def _http2_head(refusals: Refusals, decision: Decision, request: Request | None) -> http2.Response:
    return http2.Response(_http2_response(refusals, decision, request).headers)
