"""HTTP/1.1 on the native server: order, limits, and nothing that could be read in two ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

import pytest

from extauthz.edge.asked import Asked
from extauthz.edge.listen import Bound
from extauthz.edge.native import server as native_server
from extauthz.edge.native.http1 import Http1Connection, Response
from extauthz.edge.native.peer import PeerProtocol
from extauthz.edge.native.requests import Http1Limits
from extauthz.edge.native.server import Server

SECONDS = 10
GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
KNOWN = b"GET /known HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: x\r\n"


class Application:
    """Answers KNOWN from memory, `/wait` once `go` is set, `/big` with 60,000 bytes, all else with what was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()

    def recall(self, head: bytes) -> Response | None:
        return Response(200, (), b"known") if head == KNOWN else None

    def answer(self, asked: Asked) -> Response | Awaitable[Response]:
        self.asked.append(asked)
        if asked.target == "/wait":
            return self._wait()
        body = b"x" * 60_000 if asked.target == "/big" else f"{asked.method} {asked.target}".encode() + asked.content
        return Response(200, (("x-a", "b"),), body)

    def refuse(self, status: int) -> Response:
        return Response(status, ())

    async def _wait(self) -> Response:
        self.waiting.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Response(200, (), b"waited")


class Told(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Peer:
    """A client that sends bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def response(self, *, bodiless: bool = False) -> Told:
        async with asyncio.timeout(SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            length = 0 if bodiless else int(headers.get("content-length", "0"))
            return Told(int(head[0].split(" ")[1]), headers, await self.reader.readexactly(length))

    async def closed(self) -> bytes:
        """Return what comes until the server closes."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.read()


Connect = Callable[[], Awaitable[Peer]]


@asynccontextmanager
async def served(application: Application, limits: Http1Limits | None = None) -> AsyncIterator[tuple[Server, Connect]]:
    settled = limits or Http1Limits()
    server = Server(
        Bound("127.0.0.1:0"), lambda open_: Http1Connection(application, settled, open_, max_body_bytes=100)
    )
    await server.start()
    peers: list[Peer] = []

    async def connect() -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", server.port)))
        return peers[-1]

    try:
        yield server, connect
    finally:
        for peer in peers:
            peer.writer.close()
        await server.stop(0)


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
async def peer(application: Application) -> AsyncIterator[Peer]:
    async with served(application) as (_, connect):
        yield await connect()


async def test_requests_one_after_the_other(peer: Peer) -> None:
    """The connection is kept."""
    for number in range(3):
        peer.send(b"GET /%d?q HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        told = await peer.response()
        assert (told.status, told.body, told.headers["x-a"]) == (200, b"GET /%d?q" % number, "b")
        assert "connection" not in told.headers


async def test_pipelined_requests_are_answered_in_order(peer: Peer, application: Application) -> None:
    """Also those behind one that must be waited for."""
    wait = GET.replace(b"/a", b"/wait")
    peer.send(GET + wait + GET + wait + b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi" + GET)
    assert (await peer.response()).body == b"GET /a"
    await application.waiting.wait()
    assert len(application.asked) == 2
    application.go.set()
    bodies = [(await peer.response()).body for _ in range(5)]
    assert bodies == [b"waited", b"GET /a", b"waited", b"POST /bhi", b"GET /a"]
    peer.send(GET)
    assert (await peer.response()).status == 200


async def test_requests_may_come_byte_by_byte(peer: Peer) -> None:
    """Whatever a read holds."""
    for byte in POST + b"content-length: 3\r\n\r\nabc" + GET:
        peer.send(bytes((byte,)))
        await peer.writer.drain()
    assert (await peer.response()).body == b"POST /aabc"
    assert (await peer.response()).body == b"GET /a"


async def test_headers_are_joined_and_keep_their_values(peer: Peer, application: Application) -> None:
    """Lower-case names, commas between two values, bytes that are no text kept."""
    peer.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: 1 \r\nx-a:\t2\r\nX-B: \xff\xc3\xbc\r\nX-C:\r\n\r\n")
    await peer.response()
    (asked,) = application.asked
    assert asked.headers == {"host": "x", "x-a": "1,2", "x-b": "\udcffü", "x-c": ""}


async def test_a_body_in_chunks(peer: Peer, application: Application) -> None:
    """Trailers have no say."""
    peer.send(
        POST + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n2;e=f\r\nde\r\n0\r\nauthorization: x\r\n\r\n" + GET
    )
    assert (await peer.response()).body == b"POST /aabcde"
    assert "authorization" not in application.asked[0].headers
    assert (await peer.response()).status == 200


async def test_a_large_body_is_kept_to_the_limit(peer: Peer, application: Application) -> None:
    """The rest is read and dropped."""
    peer.send(POST + b"content-length: 100000\r\n\r\n" + b"x" * 100_000 + GET)
    await peer.response()
    await peer.response()
    assert application.asked[0].content == b"x" * 100


async def test_head_has_no_body(peer: Peer) -> None:
    """RFC 9110 section 9.3.2."""
    peer.send(b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n" + GET)
    told = await peer.response(bodiless=True)
    assert told.headers["content-length"] == "7"
    assert (await peer.response()).body == b"GET /a"


@pytest.mark.parametrize(
    "request_", [b"GET /a HTTP/1.0\r\n\r\n", b"GET /a HTTP/1.1\r\nhost: x\r\nConnection: close\r\n\r\n"]
)
async def test_the_last_request_of_a_connection(peer: Peer, request_: bytes) -> None:
    """It is answered, and then the connection ends."""
    peer.send(request_)
    assert (await peer.response()).headers["connection"] == "close"
    assert await peer.closed() == b""


async def test_nothing_after_the_last_request_is_answered(peer: Peer, application: Application) -> None:
    """It was not asked for."""
    peer.send(b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" + GET)
    assert (await peer.response()).status == 200
    assert await peer.closed() == b""
    assert len(application.asked) == 1


async def test_expect_continue(peer: Peer) -> None:
    """The body comes only after that."""
    peer.send(GET + POST + b"content-length: 2\r\nexpect: 100-Continue\r\n\r\n")
    assert (await peer.response()).body == b"GET /a"
    assert (await peer.response()).status == 100
    peer.send(b"ok")
    assert (await peer.response()).body == b"POST /aok"


async def test_an_upgrade_is_not_followed(peer: Peer, application: Application) -> None:
    """The check is answered; what follows in the new protocol has no meaning here."""
    peer.send(b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n" + GET)
    told = await peer.response()
    assert (told.body, told.headers["connection"]) == (b"GET /ws", "close")
    assert await peer.closed() == b""
    assert len(application.asked) == 1


CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        POST + b"content-length: 1\r\ncontent-length: 1\r\n\r\na",
        POST + b"content-length: 1, 1\r\n\r\na",
        POST + b"content-length: +1\r\n\r\na",
        POST + b"content-length: -1\r\n\r\na",
        POST + b"content-length: 0x1\r\n\r\na",
        POST + b"content-length: \r\n\r\na",
        POST + b"content-length: 99999999999999999999\r\n\r\na",
        POST + b"transfer-encoding: identity\r\n\r\na",
        POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n\r\n",
        CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"-1\r\n\r\n",
        CHUNKED + b"1 \r\na\r\n0\r\n\r\n",
        CHUNKED + b"1\na\r\n0\r\n\r\n",
        CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n",
        CHUNKED + b"f" * 20 + b"\r\na",
        CHUNKED + b"0\r\ncontent-length: 7\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\na: b\r\n\tc\r\n\r\n",
        b"GET /a HTTP/1.1\r\n host: x\r\n\r\n",
        b"GET /a HTTP/1.1\nhost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\na: b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\n\n",
        b"GET /a HTTP/1.1\r\nhost: x\r a: b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nho st: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\0y\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\x01\r\n\r\n",
        b"GET /a HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.2\r\nhost: x\r\n\r\n",
        b"GET /a HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET /a\r\n\r\n",
        b"FROB /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_what_two_servers_could_read_in_two_ways(peer: Peer, application: Application, raw: bytes) -> None:
    """400, the connection ends, and nothing behind it is read; a request before it was answered."""
    peer.send(GET + raw + GET)
    assert (await peer.response()).status == 200
    told = await peer.response()
    assert (told.status, told.headers["connection"]) == (400, "close")
    assert await peer.closed() == b""
    assert len(application.asked) == 1


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /a HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(300)) + b"\r\n", 431),
        (b"GET /a HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /a HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 600_000, 431),
        (b"GET /" + b"a" * 600_000, 431),
        (POST + b"expect: something\r\n\r\n", 417),
    ],
)
async def test_limits(peer: Peer, raw: bytes, status: int) -> None:
    """More than Envoy ever sends."""
    peer.send(raw)
    assert (await peer.response()).status == status
    peer.writer.close()


async def test_what_envoy_lets_pass_fits(peer: Peer) -> None:
    """60 KiB of headers in 100 lines, and as long a path."""
    lines = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 600) for number in range(100))
    peer.send(b"GET /%s HTTP/1.1\r\nhost: x\r\n%s\r\n" % (b"a" * 60_000, lines))
    assert (await peer.response()).status == 200


async def test_slow_requests_are_cut_off(application: Application) -> None:
    """A head or a body that does not end: 408; a connection that never begins: closed."""
    async with served(application) as (server, connect):
        silent, head, body, resting = [await connect() for _ in range(4)]
        resting.send(GET)
        await resting.response()
        head.send(b"GET /a HTTP/1.1\r\nhost")
        body.send(GET + POST + b"content-length: 2\r\n\r\nx")
        await body.response()
        await tick(server, 0)
        await tick(server, Http1Limits().arrive_seconds + 1)
        assert (await head.response()).status == 408
        assert (await body.response()).status == 408
        assert await silent.closed() == b""
        resting.send(GET)
        assert (await resting.response()).status == 200
        await tick(server, Http1Limits().arrive_seconds + 2)
        await tick(server, Http1Limits().idle_seconds + 100)
        assert await resting.closed() == b""


async def tick(server: Server, seconds: float) -> None:
    """Let the connections believe that so much time has passed."""
    server._connections.tick(asyncio.get_running_loop().time() + seconds)


async def test_a_peer_that_does_not_read_is_not_read_from(application: Application) -> None:
    """Answers pile up to a limit; then the requests wait; at last the peer is cut off."""
    async with served(application) as (server, connect):
        reading, other = await connect(), await connect()
        for peer in (reading, other):
            peer.send(GET.replace(b"/a", b"/big") * 500)
        third = await connect()
        third.send(GET)
        await third.response()
        assert buffered(server) < 1_000_000
        for _ in range(500):
            assert len((await reading.response()).body) == 60_000
        asked = len(application.asked)
        await tick(server, Http1Limits().send_seconds + 1)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await all_responses(other, 500)
        assert len(application.asked) < asked + 500


def buffered(server: Server) -> int:
    """Return the most bytes that a connection's socket has not taken."""
    connections = (cast("PeerProtocol", open_) for open_ in server._connections._open)
    return max(open_.transport.get_write_buffer_size() for open_ in connections)


async def all_responses(peer: Peer, count: int) -> None:
    for _ in range(count):
        await peer.response()


async def test_a_peer_that_has_no_more_to_ask(peer: Peer, application: Application) -> None:
    """Half-closed: it still gets its answers."""
    peer.send(GET.replace(b"/a", b"/wait") + GET)
    await application.waiting.wait()
    peer.writer.write_eof()
    application.go.set()
    assert (await peer.response()).body == b"waited"
    assert (await peer.response()).body == b"GET /a"
    assert await peer.closed() == b""


async def test_what_takes_too_long_at_the_end_is_cut_off(application: Application) -> None:
    """After the grace period; what was under way is cancelled."""
    async with served(application) as (server, connect):
        peer = await connect()
        peer.send(GET.replace(b"/a", b"/wait"))
        await application.waiting.wait()
        await server.stop(0)
        await application.cancelled.wait()


async def test_draining_answers_what_was_asked(application: Application) -> None:
    """With `connection: close`; resting connections are closed after a moment, in which they may still ask."""
    async with served(application) as (server, connect):
        waiting, resting, partial = [await connect() for _ in range(3)]
        for peer in (waiting, resting, partial):
            peer.send(GET)
            await peer.response()
        waiting.send(GET.replace(b"/a", b"/wait"))
        await application.waiting.wait()
        partial.send(GET[:10])
        await tick(server, 0)
        stopping = asyncio.create_task(server.stop(60))
        application.go.set()
        assert (await waiting.response()).headers["connection"] == "close"
        await tick(server, 1)
        assert await resting.closed() == b""
        partial.send(GET[10:])
        assert (await partial.response()).headers["connection"] == "close"
        for peer in (waiting, resting, partial):
            peer.writer.close()
        await stopping


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0b", "a\rb"])
def test_a_header_is_one_line(value: str) -> None:
    """Nothing that we write can split a response."""
    with pytest.raises(ValueError, match="not one line"):
        Response(200, (("x", value),))


async def test_a_known_request_is_answered_from_memory() -> None:
    """Where it comes alone, between others; its answer overtakes none that is waited for."""
    application = Application()
    async with served(application) as (_, connect):
        peer = await connect()
        for raw, body in ((KNOWN, b"known"), (GET, b"GET /a"), (KNOWN, b"known")):
            peer.send(raw)
            assert (await peer.response()).body == body
        peer.send(KNOWN + GET)
        assert [(await peer.response()).body for _ in range(2)] == [b"GET /known", b"GET /a"]
        peer.send(GET.replace(b"/a", b"/wait"))
        await application.waiting.wait()
        peer.send(KNOWN)
        application.go.set()
        assert (await peer.response()).body == b"waited"
        assert (await peer.response()).body in (b"known", b"GET /known")


async def test_a_draining_connection_remembers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last answer announces the end."""
    monkeypatch.setattr(native_server, "TICK_SECONDS", 100)  # a tick would end the connection before it asks
    async with served(Application()) as (server, connect):
        peer = await connect()
        peer.send(KNOWN)
        assert (await peer.response()).body == b"known"
        stopping = asyncio.create_task(server.stop(SECONDS))
        await asyncio.sleep(0)  # let the drain begin
        peer.send(KNOWN)
        told = await peer.response()
        assert (told.body, told.headers["connection"]) == (b"GET /known", "close")
        await peer.closed()
        peer.writer.close()
        await stopping
