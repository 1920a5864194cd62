"""HTTP/2: the peer's windows and ours, settings, and what breaks them."""

from __future__ import annotations

import pytest
from hyperframe import frame as frames

from extauthz.edge.native.h2.limits import Limits
from tests.unit.edge.native.peer import Application, Connect, Peer, data, fields, served

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM = 1, 3, 5, 6, 7
INITIAL_WINDOW_SIZE, HEADER_TABLE_SIZE = 4, 1
LARGEST = 2**31 - 1


async def test_a_large_answer_waits_for_both_windows(peer: Peer) -> None:
    """Only what they allow leaves; the rest follows their updates, and small answers overtake it."""
    peer.ask(1, "/big/200000")
    received = 0
    while received < 65535:
        received += len((await peer.receive(frames.DataFrame)).data)
    assert received == 65535
    await peer.alive()
    peer.send(frames.WindowUpdateFrame(0, LARGEST - 65535))
    peer.ask(3, "/echo", b"small")
    assert await peer.response(3) == ("200", b"small")
    peer.send(frames.WindowUpdateFrame(1, 200000 - 65535))
    _, rest = await peer.response(1)
    assert received + len(rest) == 200000


async def test_answers_wait_for_the_connections_window(peer: Peer) -> None:
    """A few bytes at a time, in order of their streams."""
    for stream in range(1, 9, 2):
        peer.ask(stream, "/big/20000")
    received = 0
    while received < 65535:
        received += len((await peer.receive(frames.DataFrame)).data)
    for _ in range(80000 - 65535, 0, -1000):
        peer.send(frames.WindowUpdateFrame(0, 1000))
    assert len((await peer.response(7))[1]) == 80000 - 65535


async def test_a_window_of_nothing_then_changed_by_settings(connect: Connect) -> None:
    """SETTINGS_INITIAL_WINDOW_SIZE moves the windows of open streams, below zero too."""
    peer = await connect()
    await peer.handshake({INITIAL_WINDOW_SIZE: 10})
    peer.ask(1, "/big/30")
    assert len((await peer.receive(frames.DataFrame)).data) == 10
    peer.send(frames.SettingsFrame(0, settings={INITIAL_WINDOW_SIZE: 0}))
    peer.send(frames.WindowUpdateFrame(1, 10))
    await peer.alive()
    peer.send(frames.WindowUpdateFrame(1, 5))
    assert len((await peer.receive(frames.DataFrame)).data) == 5
    peer.send(frames.SettingsFrame(0, settings={INITIAL_WINDOW_SIZE: 100}))
    assert len((await peer.response(1))[1]) == 15


async def test_an_answer_without_a_body_needs_no_window(connect: Connect) -> None:
    """Headers are not counted."""
    peer = await connect()
    await peer.handshake({INITIAL_WINDOW_SIZE: 0})
    peer.ask(1, "/echo")
    assert await peer.response(1) == ("200", b"")


async def test_a_smaller_table_of_the_peer_is_acknowledged(connect: Connect) -> None:
    """RFC 7541 section 4.2: the next section says so, and strict decoders insist on it."""
    peer = await connect()
    await peer.handshake({HEADER_TABLE_SIZE: 100})
    peer.decoder.max_allowed_table_size = 100
    for stream in (1, 3):
        peer.ask(stream, "/echo", b"x")
        assert await peer.response(stream) == ("200", b"x")


async def test_large_bodies_get_window_as_they_come(application: Application) -> None:
    """A body larger than the stream's window, and more of them than the connection's."""
    application.max_body = 1_000_000
    limits = Limits(stream_window=70_000, connection_window=140_000)
    async with served(application, limits) as (_, connect):
        peer = await connect()
        await peer.handshake()
        for stream in (1, 3):
            peer.send(peer.headers(stream, fields("/wait"), "END_HEADERS"))
            sent, granted, connection = 0, 70_000, 65535 + (140_000 - 65535) * (stream == 1)
            del connection
            while sent < 500_000:
                if sent + 10_000 > granted:
                    update = await peer.receive(frames.WindowUpdateFrame)
                    granted += update.window_increment if update.stream_id == stream else 0
                    continue
                peer.send(data(stream, b"x" * 10_000, pad=0))
                sent += 10_001
            peer.send(data(stream, end=True))
        application.go.set()
        assert (await peer.response(1))[0] == "200"


async def test_more_than_the_streams_window_resets_it() -> None:
    """The connection goes on."""
    application = Application(max_body=1_000_000)
    limits = Limits(stream_window=65535, small_data=0)
    async with served(application, limits) as (_, connect):
        peer = await connect()
        await peer.handshake()
        peer.send(peer.headers(1, fields("/echo"), "END_HEADERS"))
        peer.send(*(data(1, b"x" * 16384) for _ in range(2)), data(1, b"x" * 16384))
        await peer.receive(frames.WindowUpdateFrame)
        await peer.alive()


@pytest.mark.parametrize("stream", [0, 1])
async def test_a_window_that_overflows(peer: Peer, stream: int) -> None:
    """An error of the stream or of the connection."""
    peer.send(peer.headers(1, fields("/wait")))
    peer.send(frames.WindowUpdateFrame(stream, LARGEST), frames.WindowUpdateFrame(stream, LARGEST))
    if stream:
        assert await peer.reset() == (1, FLOW_CONTROL_ERROR)
        await peer.alive()
    else:
        assert await peer.goaway() == FLOW_CONTROL_ERROR


async def test_settings_that_overflow_a_window(peer: Peer) -> None:
    """The sum counts."""
    peer.send(peer.headers(1, fields("/wait")), frames.WindowUpdateFrame(1, 100))
    peer.send(frames.SettingsFrame(0, settings={INITIAL_WINDOW_SIZE: LARGEST}))
    assert await peer.goaway() == FLOW_CONTROL_ERROR


@pytest.mark.parametrize("stream", [0, 1])
async def test_a_window_that_grows_by_nothing(peer: Peer, stream: int) -> None:
    """It is an error, not a way to keep us busy."""
    peer.send(peer.headers(1, fields("/wait")))
    peer.raw(b"\0\0\x04\x08\0" + stream.to_bytes(4, "big") + b"\0\0\0\0")
    assert (await peer.reset() if stream else (1, await peer.goaway())) == (1, PROTOCOL_ERROR)


async def test_data_beyond_the_connections_window() -> None:
    """The sum over all streams counts, padding too."""
    limits = Limits(connection_window=65536, stream_window=65535)
    async with served(Application(), limits) as (_, connect):
        peer = await connect()
        await peer.handshake()
        # Nothing is read while nothing is written, so one write is one read's worth of frames.
        for stream in range(1, 41, 2):
            peer.send(peer.headers(stream, fields("/wait"), "END_HEADERS"), data(stream, b"", pad=255))
        await peer.alive()


async def test_no_more_streams_than_announced() -> None:
    """Further ones are refused, which is safe to retry; those before are not disturbed."""
    application = Application()
    async with served(application, Limits(max_streams=3)) as (_, connect):
        peer = await connect()
        await peer.handshake()
        for stream in (1, 3, 5, 7):
            peer.ask(stream, "/wait")
        assert await peer.reset() == (7, REFUSED_STREAM)
        application.go.set()
        for stream in (1, 3, 5):
            assert (await peer.response(stream))[0] == "200"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\0\0\x07\x06\0\0\0\0\0" + b"1234567", FRAME_SIZE_ERROR),
        (b"\0\0\x05\x04\0\0\0\0\0" + b"12345", FRAME_SIZE_ERROR),
        (b"\0\0\x06\x04\x01\0\0\0\0" + b"123456", FRAME_SIZE_ERROR),
        (b"\0\0\x03\x03\0\0\0\0\x01" + b"123", FRAME_SIZE_ERROR),
        (b"\0\x40\x01\0\0\0\0\0\x01", FRAME_SIZE_ERROR),
        (b"\0\0\x03\x01\x24\0\0\0\x01" + b"123", FRAME_SIZE_ERROR),
        (b"\0\0\0\x04\0\0\0\0\x01", PROTOCOL_ERROR),
        (b"\0\0\x04\x03\0\0\0\0\0" + b"1234", PROTOCOL_ERROR),
        (b"\0\0\0\x05\x04\0\0\0\x01", PROTOCOL_ERROR),
        (b"\0\0\0\x09\x04\0\0\0\x01", PROTOCOL_ERROR),
        (b"\0\0\0\x01\x04\0\0\0\x02", PROTOCOL_ERROR),
        (b"\0\0\0\0\0\0\0\0\x01", PROTOCOL_ERROR),
        (b"\0\0\x04\x03\0\0\0\0\x01" + b"1234", PROTOCOL_ERROR),
        (b"\0\0\x04\x08\0\0\0\0\x01" + b"1234", PROTOCOL_ERROR),
        (b"\0\0\x01\x01\x0c\0\0\0\x01" + b"\x09", PROTOCOL_ERROR),
        (b"\0\0\x06\x04\0\0\0\0\0" + b"\0\x02\0\0\0\x02", PROTOCOL_ERROR),
        (b"\0\0\x06\x04\0\0\0\0\0" + b"\0\x05\0\0\0\x02", PROTOCOL_ERROR),
        (b"\0\0\x06\x04\0\0\0\0\0" + b"\0\x04\xff\xff\xff\xff", FLOW_CONTROL_ERROR),
    ],
)
async def test_frames_that_end_the_connection(peer: Peer, raw: bytes, code: int) -> None:
    """Wrong sizes, wrong streams, impossible values."""
    peer.raw(raw)
    assert await peer.goaway() == code


async def test_frames_on_streams_that_are_over(connect: Connect) -> None:
    """They end the connection: a stream that was, and one that never can be."""
    for sent, code in (
        (lambda peer: data(5, b"late"), STREAM_CLOSED),
        (lambda peer: peer.headers(5), STREAM_CLOSED),
        (lambda peer: peer.headers(3), PROTOCOL_ERROR),
    ):
        peer = await connect()
        await peer.handshake()
        peer.ask(5, "/echo")
        await peer.response(5)
        peer.send(sent(peer))
        assert await peer.goaway() == code


async def test_frames_that_crossed_our_reset_are_ignored(peer: Peer) -> None:
    """The peer could not know."""
    peer.send(peer.headers(1, fields("/echo", ("connection", "close")), "END_HEADERS"))
    peer.send(data(1, b"more"), frames.WindowUpdateFrame(1, 5), peer.headers(1, [("x", "y")]))
    assert await peer.reset() == (1, PROTOCOL_ERROR)
    await peer.alive()


@pytest.mark.parametrize("kind", ["data", "headers"])
async def test_a_request_that_has_ended_does_not_go_on(peer: Peer, kind: str) -> None:
    """While its answer is waited for."""
    peer.send(peer.headers(1, fields("/wait")))
    peer.send(data(1, b"x") if kind == "data" else peer.headers(1, [("x", "y")]))
    assert await peer.reset() == (1, STREAM_CLOSED)


@pytest.mark.parametrize(
    "content",
    [
        [(":method", "GET"), (":scheme", "http")],
        [(":method", "GET"), (":scheme", "http"), (":path", "")],
        [(":method", "CONNECT"), (":authority", "x")],
        fields("/echo", ("X-Upper", "1")),
        fields("/echo", ("a b", "1")),
        fields("/echo", ("", "1")),
        fields("/echo", ("x", "a\r\nb")),
        fields("/echo", ("x", "a\0b")),
        fields("/echo", ("x", " a")),
        fields("/echo", ("te", "gzip")),
        fields("/echo", ("transfer-encoding", "chunked")),
        fields("/echo", (":path", "/other")),
        fields("/echo", (":status", "200")),
        [("x", "y"), *fields("/echo")],
        fields("/echo", ("content-length", "1"), ("content-length", "2")),
        fields("/echo", ("content-length", "+1")),
        fields("/echo", ("content-length", "1")),
    ],
)
async def test_malformed_requests_are_reset(peer: Peer, content: list[tuple[str, str]]) -> None:
    """RFC 9113 section 8.1.1; the connection goes on."""
    section = peer.encoder.encode([(name.encode(), value.encode()) for name, value in content])
    peer.send(frames.HeadersFrame(1, section, flags=["END_HEADERS", "END_STREAM"]))
    assert await peer.reset() == (1, PROTOCOL_ERROR)
    peer.ask(3, "/echo", b"on")
    assert await peer.response(3) == ("200", b"on")


@pytest.mark.parametrize("bodies", [[b"12345"], [b"123", b"45"], [b"123"], [b"1", b""]])
async def test_a_body_of_another_length_than_said(peer: Peer, bodies: list[bytes]) -> None:
    """It could hide a second request from somebody else."""
    peer.send(peer.headers(1, fields("/echo", ("content-length", "4")), "END_HEADERS"))
    for body in bodies[:-1]:
        peer.send(data(1, body))
    peer.send(data(1, bodies[-1], end=True))
    assert await peer.reset() == (1, PROTOCOL_ERROR)


@pytest.mark.parametrize("trailers", [[(":path", "/x")], [("X", "y")]])
async def test_bad_trailers(peer: Peer, trailers: list[tuple[str, str]]) -> None:
    """They obey the same rules."""
    peer.send(peer.headers(1, fields("/echo"), "END_HEADERS"), peer.headers(1, trailers))
    assert await peer.reset() == (1, PROTOCOL_ERROR)


async def test_trailers_must_end_the_request(peer: Peer) -> None:
    """There is no third section."""
    peer.send(peer.headers(1, fields("/echo"), "END_HEADERS"), peer.headers(1, [("x", "y")], "END_HEADERS"))
    assert await peer.reset() == (1, PROTOCOL_ERROR)
