"""gRPC on the native server: what a call may look like. Every check is answered with a message."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Mapping

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from hyperframe import frame as frames

from extauthz.edge.check import SERVICE
from extauthz.edge.native.grpc import GrpcEdge
from extauthz.errors import ConfigurationError
from extauthz.request import Request
from extauthz.settings.listeners import GrpcListener
from extauthz.subject import Subject
from tests.cases import ALICE, gateway
from tests.unit.edge.native.peer import Peer, data, fields

LIMIT = 1000
CHECK = f"/{SERVICE}/Check"


class Slow:
    """An authenticator that must be waited for until `go`, or that fails then."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.error: Exception | None = None

    def authenticate(self, request: Request | Mapping[str, str]) -> Awaitable[Subject | None]:
        return self._authenticate()

    async def _authenticate(self) -> Subject | None:
        self.asked.set()
        await self.go.wait()
        if self.error:
            raise self.error
        return Subject.authenticated(ALICE)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
async def edge() -> AsyncIterator[GrpcEdge]:
    served = GrpcEdge(gateway(), GrpcListener(address="127.0.0.1:0"), max_body_bytes=LIMIT)
    await served.start()
    yield served
    await served.stop(0)


@pytest.fixture
async def slow_edge(slow: Slow) -> AsyncIterator[GrpcEdge]:
    built = gateway(authenticator=slow)
    served = GrpcEdge(built, GrpcListener(address="127.0.0.1:0"), max_body_bytes=LIMIT)
    await served.start()
    yield served
    await served.stop(0)


async def connect(edge: GrpcEdge) -> Peer:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", edge.port))
    await peer.handshake()
    return peer


def ask(path: str = "/app") -> bytes:
    message = external_auth_pb2.CheckRequest()
    http = message.attributes.request.http
    http.method, http.path = "GET", path
    return bytes(message.SerializeToString())


def framed(content: bytes, *, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(content).to_bytes(4, "big") + content


def call(peer: Peer, body: bytes, *more: tuple[str, str], path: str = CHECK, kind: str = "application/grpc") -> None:
    """Send a call on stream 1."""
    content = fields(path, ("content-type", kind), ("te", "trailers"), *more)
    peer.send(peer.headers(1, content, "END_HEADERS"))
    for at in range(0, len(body), 16384):
        peer.send(data(1, body[at : at + 16384]))
    peer.send(data(1, end=True))


async def told(peer: Peer) -> tuple[dict[str, str], bytes]:
    """Return all fields of an answer, trailers included, and its body."""
    found: dict[str, str] = {}
    body = b""
    while True:
        frame = await peer.frame()
        if isinstance(frame, frames.HeadersFrame):
            found.update(peer.decoded(frame))
        elif isinstance(frame, frames.DataFrame):
            body += frame.data
        if frame.stream_id and "END_STREAM" in frame.flags:
            await peer.close()
            return found, body


async def status(peer: Peer) -> int:
    """Return the HTTP status of the CheckResponse; the call itself must have succeeded."""
    found, body = await told(peer)
    assert (found[":status"], found["grpc-status"], found["content-type"]) == ("200", "0", "application/grpc")
    response = external_auth_pb2.CheckResponse.FromString(body[5:])
    assert body[:5] == framed(body[5:])[:5]
    return int(response.denied_response.status.code) if response.status.code else 200


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "Application/GRPC;charset=utf-8"])
async def test_a_call(edge: GrpcEdge, kind: str) -> None:
    """The content type may name its format."""
    peer = await connect(edge)
    call(peer, framed(ask()), kind=kind)
    assert await status(peer) == 200


async def test_a_message_may_be_compressed(edge: GrpcEdge) -> None:
    """With gzip, and then flagged or not."""
    for body in (framed(zipped(ask()), flag=1), framed(ask())):
        peer = await connect(edge)
        call(peer, body, ("grpc-encoding", "gzip"))
        assert await status(peer) == 200


def zipped(content: bytes) -> bytes:
    """Compress without the time, which would stand in the names of tests."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", "identity"),
        (b"\0\0\0", "identity"),
        (framed(ask())[:-1], "identity"),
        (framed(ask()) + b"x", "identity"),
        (framed(ask()) + framed(ask()), "identity"),
        (framed(ask(), flag=2), "gzip"),
        (framed(ask(), flag=1), "identity"),
        (framed(ask(), flag=1), "deflate"),
        (framed(ask(), flag=1), "gzip"),
        (framed(zipped(ask())[:-4], flag=1), "gzip"),
        (framed(zipped(ask()) + b"x", flag=1), "gzip"),
        (framed(zipped(bytes(1 << 24)), flag=1), "gzip"),
        (framed(b"\xff\xff"), "identity"),
        (framed(b""), "identity"),
        (framed(bytes(LIMIT + (1 << 20) + 1)), "identity"),
    ],
)
async def test_what_is_no_check_is_refused_in_a_message(edge: GrpcEdge, body: bytes, encoding: str) -> None:
    """A gRPC error would be an allow under failOpen: also for a bomb, a fragment, an unknown compression."""
    peer = await connect(edge)
    call(peer, body, ("grpc-encoding", encoding))
    assert await status(peer) == 403


@pytest.mark.parametrize(
    ("path", "kind", "method", "expected"),
    [
        ("/unknown.Service/Method", "application/grpc", "POST", {":status": "200", "grpc-status": "12"}),
        (f"/{SERVICE}/check", "application/grpc", "POST", {":status": "200", "grpc-status": "12"}),
        (CHECK, "application/json", "POST", {":status": "415"}),
        (CHECK, "application/grpc-web", "POST", {":status": "415"}),
        (CHECK, "application/grpc", "GET", {":status": "405"}),
    ],
)
async def test_what_is_no_call_of_a_method(
    edge: GrpcEdge, path: str, kind: str, method: str, expected: dict[str, str]
) -> None:
    """As gRPC's HTTP/2 protocol says."""
    peer = await connect(edge)
    peer.send(peer.headers(1, fields(path, ("content-type", kind), method=method)))
    found, _ = await told(peer)
    assert found.items() >= expected.items()


@pytest.mark.parametrize("body", [b"", framed(b"\xff\xff"), framed(b"x" * 5000)])
async def test_a_health_request_that_cannot_be_read(edge: GrpcEdge, body: bytes) -> None:
    """There an error is an error."""
    peer = await connect(edge)
    call(peer, body, path="/grpc.health.v1.Health/Check")
    found, _ = await told(peer)
    assert found["grpc-status"] in ("8", "13")


async def test_a_service_that_is_not_there(edge: GrpcEdge) -> None:
    """NOT_FOUND to Check, SERVICE_UNKNOWN to Watch, until the server stops."""
    peer = await connect(edge)
    call(peer, framed(b"\n\x01x"), path="/grpc.health.v1.Health/Check")
    assert (await told(peer))[0]["grpc-status"] == "5"
    watcher = await connect(edge)
    call(watcher, framed(b"\n\x01x"), path="/grpc.health.v1.Health/Watch")
    assert (await watcher.receive(frames.DataFrame)).data == framed(b"\x08\x03")
    await edge.set_ready(True)
    stopping = asyncio.create_task(edge.stop(60))
    assert (await told(watcher))[0]["grpc-status"] == "14"
    await stopping


async def test_nothing_is_served_until_it_is_said(edge: GrpcEdge) -> None:
    """A server that has just started is not ready."""
    peer = await connect(edge)
    call(peer, framed(b""), path="/grpc.health.v1.Health/Check")
    assert (await told(peer))[1] == framed(b"\x08\x02")


async def test_a_check_that_must_be_waited_for(slow_edge: GrpcEdge, slow: Slow) -> None:
    """It is answered when the answer is there."""
    peer = await connect(slow_edge)
    call(peer, framed(ask()), ("grpc-timeout", "1H"))
    await slow.asked.wait()
    slow.go.set()
    assert await status(peer) == 200


@pytest.mark.parametrize("deadline", ["1m", "1000u", "1n", "0S"])
async def test_a_check_that_would_outlast_its_deadline(slow_edge: GrpcEdge, deadline: str) -> None:
    """It is refused before the caller gives up, since its giving up may be an allow."""
    peer = await connect(slow_edge)
    call(peer, framed(ask()), ("grpc-timeout", deadline))
    assert await status(peer) == 503


@pytest.mark.parametrize("deadline", ["", "5", "5x", "123456789S", "-1S"])
async def test_a_deadline_that_cannot_be_read_is_none(slow_edge: GrpcEdge, slow: Slow, deadline: str) -> None:
    """The check is answered all the same."""
    slow.go.set()
    peer = await connect(slow_edge)
    call(peer, framed(ask()), ("grpc-timeout", deadline))
    assert await status(peer) == 200


async def test_a_check_that_fails_while_it_is_waited_for(slow_edge: GrpcEdge, slow: Slow) -> None:
    """It is refused in a message."""
    slow.error = RuntimeError("boom")
    slow.go.set()
    peer = await connect(slow_edge)
    call(peer, framed(ask()))
    assert await status(peer) == 503


async def test_a_check_under_way_survives_the_stop(slow_edge: GrpcEdge, slow: Slow) -> None:
    """Draining waits for it."""
    peer = await connect(slow_edge)
    call(peer, framed(ask()))
    await slow.asked.wait()
    stopping = asyncio.create_task(slow_edge.stop(60))
    ping = await peer.receive(frames.PingFrame)
    peer.send(frames.PingFrame(0, ping.opaque_data, flags=["ACK"]))
    slow.go.set()
    assert await status(peer) == 200
    await stopping


def test_reflection_is_refused() -> None:
    """It is not served here, and silence would be a surprise."""
    with pytest.raises(ConfigurationError, match="grpcio"):
        GrpcEdge(gateway(), GrpcListener(reflection=True), max_body_bytes=1)
