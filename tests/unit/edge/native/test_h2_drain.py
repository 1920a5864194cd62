"""HTTP/2: a server that stops answers everything that it has taken (RFC 9113 section 6.8)."""

from __future__ import annotations

import asyncio

from hyperframe import frame as frames

from tests.unit.edge.native.peer import Application, served

LARGEST = 2**31 - 1


async def test_draining_in_two_steps(application: Application) -> None:
    """First a GOAWAY that excludes nothing; when the peer has seen it, the final one; then the last answers."""
    async with served(application) as (server, connect):
        peer = await connect()
        await peer.handshake()
        peer.ask(1, "/wait")
        await application.waiting.wait()
        stopping = asyncio.create_task(server.stop(60))
        assert (await peer.receive(frames.GoAwayFrame)).last_stream_id == LARGEST
        ping = await peer.receive(frames.PingFrame)
        peer.ask(3, "/echo", b"crossed")
        assert await peer.response(3) == ("200", b"crossed")
        peer.send(frames.PingFrame(0, ping.opaque_data, flags=["ACK"]))
        assert (await peer.receive(frames.GoAwayFrame)).last_stream_id == 3
        peer.ask(5, "/echo", b"too late")
        peer.send(frames.RstStreamFrame(5, 8))
        application.go.set()
        assert await peer.response(1) == ("200", b"waited")
        assert await peer.reader.read() == b""
        await peer.close()
        await stopping


async def test_an_idle_connection_is_closed(application: Application) -> None:
    """As soon as the peer has seen the announcement."""
    async with served(application) as (server, connect):
        peer = await connect()
        await peer.handshake()
        await peer.alive()
        stopping = asyncio.create_task(server.stop(60))
        ping = await peer.receive(frames.PingFrame)
        peer.send(frames.PingFrame(0, ping.opaque_data, flags=["ACK"]))
        assert await peer.goaway() == 0
        await peer.close()
        await stopping


async def test_a_peer_that_does_not_answer_is_not_waited_for(application: Application) -> None:
    """The second step comes with the next tick anyway."""
    async with served(application) as (server, connect):
        peer = await connect()
        await peer.handshake()
        await peer.alive()
        stopping = asyncio.create_task(server.stop(60))
        await peer.receive(frames.GoAwayFrame)
        server._connections.tick(asyncio.get_running_loop().time())
        assert await peer.goaway() == 0
        await peer.close()
        await stopping


async def test_what_takes_too_long_is_cut_off(application: Application) -> None:
    """After the grace period; what was under way is cancelled."""
    async with served(application) as (server, connect):
        peer = await connect()
        await peer.handshake()
        peer.ask(1, "/wait")
        await application.waiting.wait()
        await server.stop(0)
        await application.cancelled.wait()


async def test_a_server_that_never_started_stops(application: Application) -> None:
    """Nothing is to be done."""
    async with served(application) as (server, _):
        await server.stop(0)
        await server.stop(0)
