"""HTTP/2: peers that want more than their share lose their own connection, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

import hpack
import pytest
from hyperframe import frame as frames

from extauthz.edge.native.h2.limits import Limits
from extauthz.edge.native.peer import PeerProtocol
from extauthz.edge.native.server import Server
from tests.unit.edge.native.peer import PREFACE, Application, Connect, Peer, data, fields, served

PROTOCOL_ERROR, SETTINGS_TIMEOUT, CANCEL, COMPRESSION_ERROR, CALM = 1, 4, 8, 9, 11
LIMIT = Limits().max_overhead


@pytest.fixture
async def bystander(connect: Connect) -> AsyncIterator[Peer]:
    """Another connection, which must still be served afterwards."""
    other = await connect()
    await other.handshake()
    yield other
    other.ask(1, "/echo", b"still here")
    assert await other.response(1) == ("200", b"still here")


def flood(peer: Peer, count: int, make: Callable[[int], bytes]) -> None:
    peer.raw(b"".join(make(number) for number in range(count)))


def request(stream: int) -> bytes:
    # A static section: method GET, scheme http, path /.
    return frames.HeadersFrame(stream, b"\x82\x86\x84", flags=["END_HEADERS"]).serialize()


FLOODS: dict[str, Callable[[int], bytes]] = {
    "ping": lambda _: frames.PingFrame(0, b"12345678").serialize(),
    "ping acknowledgments": lambda _: frames.PingFrame(0, b"12345678", flags=["ACK"]).serialize(),
    "settings": lambda _: frames.SettingsFrame(0).serialize(),
    "settings acknowledgments": lambda _: frames.SettingsFrame(0, flags=["ACK"]).serialize(),
    "window updates": lambda _: frames.WindowUpdateFrame(0, 1).serialize(),
    "priority": lambda number: frames.PriorityFrame(2 * number + 1, depends_on=0, stream_weight=1).serialize(),
    "unknown": lambda _: b"\0\0\0\xee\0\0\0\0\0",
    "rapid reset": lambda number: request(2 * number + 1) + frames.RstStreamFrame(2 * number + 1, CANCEL).serialize(),
    "empty data": lambda number: request(1) if number == 0 else data(1).serialize(),
    "data for a stream that was reset": lambda number: (
        request(1) + b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\0" if number == 0 else data(1, b"x").serialize()
    ),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_floods_of_frames_that_bring_nothing(peer: Peer, bystander: Peer, kind: str) -> None:
    """ENHANCE_YOUR_CALM, after as many as a peer may send in a second."""
    flood(peer, LIMIT + 2, FLOODS[kind])
    assert await peer.goaway() == CALM


async def test_requests_pay_for_such_frames(peer: Peer) -> None:
    """A peer that cancels or pings as often as it asks is not cut off."""
    for stream in range(1, 4 * LIMIT, 2):
        peer.ask(stream, "/echo")
        peer.send(frames.PingFrame(0, b"12345678"))
        if stream % 500 == 1:
            await peer.response(stream)
    await peer.alive()


async def test_rapid_reset_of_checks_under_way(peer: Peer, bystander: Peer, application: Application) -> None:
    """CVE-2023-44487: each is cancelled, and there is an end to it."""
    for stream in range(1, 3 * LIMIT, 2):
        peer.ask(stream, "/wait")
        peer.send(frames.RstStreamFrame(stream, CANCEL))
    assert await peer.goaway() == CALM
    await application.cancelled.wait()


@pytest.mark.parametrize("fault", ["overflow", "nothing", "data"])
async def test_resets_that_the_peer_provokes(peer: Peer, bystander: Peer, fault: str) -> None:
    """CVE-2025-8671: they count as the peer's own."""
    for stream in range(1, 3 * LIMIT, 2):
        peer.ask(stream, "/wait")
        if fault == "data":
            peer.send(data(stream, b"x" * 300))
        else:
            increment = 2**31 - 1 if fault == "overflow" else 0
            peer.raw(b"\0\0\x04\x08\0" + stream.to_bytes(4, "big") + increment.to_bytes(4, "big"))
    assert await peer.goaway() == CALM


async def test_endless_continuation(peer: Peer, bystander: Peer) -> None:
    """Small pieces are counted, also empty ones."""
    peer.send(frames.HeadersFrame(1, b"\x82\x86\x84", flags=["END_STREAM"]))
    flood(peer, 100, lambda _: frames.ContinuationFrame(1, b"").serialize())
    assert await peer.goaway() == CALM


async def test_endless_header_section(peer: Peer, bystander: Peer) -> None:
    """Large pieces are added up."""
    peer.send(frames.HeadersFrame(1, b"\x82\x86\x84", flags=["END_STREAM"]))
    flood(peer, 10, lambda _: frames.ContinuationFrame(1, b"\0" * 16384).serialize())
    assert await peer.goaway() == CALM


@pytest.mark.parametrize("acknowledge", [False, True])
async def test_hpack_bomb(connect: Connect, bystander: Peer, acknowledge: bool) -> None:
    """A few bytes that stand for many: by the table, or one field over and over."""
    peer = await connect()
    await peer.handshake(acknowledge=acknowledge)
    section = peer.encoder.encode([*fields("/"), ("x", "v" * 4000)])
    reference = b"\xbe" if not acknowledge else section[-4003:]
    many = section + reference * (16000 if not acknowledge else 30)
    pieces = [many[at : at + 16384] for at in range(0, len(many), 16384)]
    peer.send(frames.HeadersFrame(1, pieces[0], flags=["END_HEADERS"] if len(pieces) == 1 else []))
    for number, piece in enumerate(pieces[1:], 2):
        peer.send(frames.ContinuationFrame(1, piece, flags=["END_HEADERS"] if number == len(pieces) else []))
    assert await peer.goaway() == CALM


@pytest.mark.parametrize(
    "section",
    [
        b"\x82\x86\x84\xfe",
        b"\x82\x86\x84\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x82\x86\x84\x00\x05abc",
        b"\x82\x86\x84\x00\x83\xff\xff\xff\x01a",
        b"\x82\x86\x84\x20",
        b"\x3f\xe2\x1f\x82\x86\x84",
        b"\x82\x86\x84\x80",
        b"\x82\x86\x84\x00",
    ],
)
@pytest.mark.parametrize("acknowledge", [False, True])
async def test_sections_that_cannot_be_decoded(connect: Connect, acknowledge: bool, section: bytes) -> None:
    """COMPRESSION_ERROR: nothing after it could be trusted."""
    peer = await connect()
    await peer.handshake(acknowledge=acknowledge)
    peer.ask(1, "/echo")
    await peer.response(1)
    peer.send(frames.HeadersFrame(3, section, flags=["END_HEADERS", "END_STREAM"]))
    assert await peer.goaway() == COMPRESSION_ERROR


async def test_a_table_larger_than_agreed(peer: Peer) -> None:
    """We announced none."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 100
    peer.send(frames.HeadersFrame(1, encoder.encode(fields("/")), flags=["END_HEADERS", "END_STREAM"]))
    assert await peer.goaway() == COMPRESSION_ERROR


async def test_a_peer_that_keeps_its_table_is_understood(peer: Peer) -> None:
    """It is in the wrong, but reads in one way only."""
    encoder = hpack.Encoder()
    for stream in (1, 3, 5):
        peer.send(frames.HeadersFrame(stream, encoder.encode(fields("/echo")), flags=["END_HEADERS", "END_STREAM"]))
        assert (await peer.response(stream))[0] == "200"


async def test_bodies_that_never_end_are_bounded(application: Application) -> None:
    """Beyond the limit the newest request is answered as too large; memory stays."""
    application.max_body = 100_000
    async with served(application, Limits(max_buffered_bytes=200_000)) as (_, connect):
        peer = await connect()
        await peer.handshake()
        for stream in range(1, 21, 2):
            peer.send(peer.headers(stream, fields("/echo"), "END_HEADERS"))
            for _ in range(5):
                peer.send(data(stream, b"x" * 10_000))
        assert await peer.response(9) == ("413", b"too much")
        peer.send(data(1, end=True))
        assert (await peer.response(1))[0] == "200"


async def test_a_peer_that_does_not_read_is_not_read_from(application: Application) -> None:
    """Its answers pile up to a limit; the rest of its requests waits, and others are served."""
    async with served(application) as (server, connect):
        peer = await connect()
        await peer.handshake()
        peer.send(frames.WindowUpdateFrame(0, 2**31 - 1 - 65535))
        for stream in range(1, 1001, 2):
            peer.ask(stream, "/big/60000")
        other = await connect()
        await other.handshake()
        other.ask(1, "/echo", b"x")
        assert await other.response(1) == ("200", b"x")
        assert buffered(server) < 1_000_000
        for stream in range(1, 1001, 2):
            assert len((await peer.response(stream))[1]) == 60_000


def buffered(server: Server) -> int:
    """Return the most bytes that a connection's socket has not taken."""
    connections = (cast("PeerProtocol", open_) for open_ in server._connections._open)
    return max(open_.transport.get_write_buffer_size() for open_ in connections)


async def test_tiny_windows_hold_no_more_than_the_streams_allow(application: Application) -> None:
    """Answers that may not leave count as streams."""
    async with served(application, Limits(max_streams=5)) as (_, connect):
        peer = await connect()
        await peer.handshake({4: 0})
        for stream in range(1, 13, 2):
            peer.ask(stream, "/big/100")
        assert await peer.reset() == (11, 7)
        peer.send(frames.SettingsFrame(0, settings={4: 1000}))
        for stream in range(1, 11, 2):
            assert len((await peer.response(stream))[1]) == 100


async def tick(server: Server, seconds: float) -> None:
    """Let the connections believe that so much time has passed."""
    loop = asyncio.get_running_loop()
    server._connections.tick(loop.time() + seconds)


async def test_half_open_requests_end(application: Application) -> None:
    """Security case dos-003: headers, then nothing."""
    async with served(application) as (server, connect):
        peer = await connect()
        await peer.handshake()
        for stream in range(1, 2 * Limits().max_streams + 1, 2):
            peer.send(peer.headers(stream, fields("/echo"), "END_HEADERS"))
        await peer.alive()
        await tick(server, Limits().arrive_seconds + 1)
        for stream in range(1, 2 * Limits().max_streams + 1, 2):
            assert await peer.reset() == (stream, CANCEL)
        await peer.alive()


async def test_answers_that_nobody_takes_are_dropped(application: Application) -> None:
    """A window that never opens."""
    async with served(application) as (server, connect):
        peer = await connect()
        await peer.handshake({4: 0})
        peer.ask(1, "/big/10")
        await peer.alive()
        await tick(server, Limits().send_seconds + 1)
        assert await peer.reset() == (1, CANCEL)


async def test_a_handshake_that_does_not_come(application: Application) -> None:
    """Neither a preface nor an acknowledgment may be waited for for ever."""
    async with served(application) as (server, connect):
        silent, half = await connect(), await connect()
        await half.handshake(acknowledge=False)
        await tick(server, Limits().arrive_seconds + 1)
        assert await silent.goaway() == SETTINGS_TIMEOUT
        assert await half.goaway() == SETTINGS_TIMEOUT


async def test_a_silent_peer_is_asked_whether_it_is_there(application: Application) -> None:
    """One that answers stays; one that does not is cut off."""
    async with served(application) as (server, connect):
        dead, alive = await connect(), await connect()
        for peer in (dead, alive):
            await peer.handshake()
            await peer.alive()
        await tick(server, 0)
        await tick(server, Limits().ping_seconds + 1)
        ping = await alive.receive(frames.PingFrame)
        alive.send(frames.PingFrame(0, ping.opaque_data, flags=["ACK"]))
        await alive.alive()
        await tick(server, Limits().ping_seconds + Limits().arrive_seconds + 1)
        assert await dead.reader.read() == ping.serialize()
        await alive.alive()


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + frames.PingFrame(0, b"12345678").serialize(), PREFACE[:-1] + b"!"]
)
async def test_something_else_than_http2(connect: Connect, first: bytes) -> None:
    """The preface is not negotiable."""
    peer = await connect()
    peer.raw(first)
    assert await peer.goaway() == PROTOCOL_ERROR


async def test_too_many_connections(application: Application) -> None:
    """Further ones are closed; those before are served."""
    async with served(application) as (server, connect):
        server._connections._limit = 2
        first, second, third = await connect(), await connect(), await connect()
        assert await third.reader.read() == b""
        for peer in (first, second):
            await peer.handshake()
            await peer.alive()
