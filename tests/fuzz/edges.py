"""Fuzz targets that ask the native edges: what they allow, the oracle allows by what Envoy sent."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from extauthz.edge.check import SERVICE
from extauthz.edge.http_service import Checks
from extauthz.edge.native.grpc import GrpcApplication
from extauthz.edge.native.h2 import message
from extauthz.edge.native.h2.fields import Head
from extauthz.edge.native.health import Health
from extauthz.edge.native.http import Http1Application
from extauthz.edge.native.http1 import Response
from extauthz.edge.native.requests import BadRequest, Http1Limits, Incoming, RequestReader
from extauthz.edge.native.unary import PREFIX_BYTES
from extauthz.edge.reply import PLAIN
from extauthz.request import Body
from tests.fuzz.requests import MAX_BODY_BYTES, alice_may, alices, refuses
from tests.security.oracle import Table

PREFIX = "/check"
PEERS_FROM = ["spiffe://cluster.local/ns/istio-system/sa/gateway"]
ALLOWED = b"HTTP/1.1 200 "


class HttpChecks:
    """The bytes of a connection to the HTTP edge. What it remembers outlives the connection."""

    def __init__(self, folder: Path) -> None:
        self._gateway = alices(folder)
        checks = Checks(PREFIX, MAX_BODY_BYTES, peers_from=PEERS_FROM)
        self._application = Http1Application(self._gateway, PLAIN, checks, MAX_BODY_BYTES)

    def __call__(self, data: bytes) -> None:
        self._gateway.authorizer = Table()
        reader = RequestReader(Http1Limits(), MAX_BODY_BYTES)
        with contextlib.suppress(BadRequest):
            reader.feed(data)
        read = [asked for asked in reader.ready if asked]
        if known := self._application.recall(data):
            assert len(read) == 1
            assert not reader.within
            self._hold(read[0], known)
        for asked in read:
            answer = self._application.answer(asked)
            assert isinstance(answer, Response)
            self._hold(asked, answer)

    def _hold(self, asked: Incoming, answer: Response) -> None:
        may = asked.target.startswith(PREFIX) and alice_may(
            asked.method, asked.target.removeprefix(PREFIX), Body(asked.content)
        )
        assert may or not answer.head.startswith(ALLOWED), asked


class GrpcCalls:
    """The body of a call of Check; the first byte says how it may be compressed."""

    def __init__(self, folder: Path) -> None:
        self._gateway = alices(folder)
        application = GrpcApplication(self._gateway, Health(()), PLAIN, max_body_bytes=MAX_BODY_BYTES)
        content_type = ("content-type", "application/grpc")
        self._routes = [
            application.route(Head("POST", f"/{SERVICE}/Check", "x", (content_type, ("grpc-encoding", encoding))))
            for encoding in ("identity", "gzip", "deflate")
        ]

    def __call__(self, data: bytes) -> None:
        self._gateway.authorizer = Table()
        route, body = self._routes[data[0] % len(self._routes)] if data else self._routes[0], data[1:]
        answer = route.answer(body)
        assert isinstance(answer, message.Response)
        if not refuses(CheckResponse.FromString(answer.data[PREFIX_BYTES:])):
            content = gzip.decompress(body[PREFIX_BYTES:]) if body[0] else body[PREFIX_BYTES:]
            http = CheckRequest.FromString(content).attributes.request.http
            assert alice_may(http.method, http.path, Body(http.raw_body or http.body.encode())), http
