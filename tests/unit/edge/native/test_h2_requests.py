"""HTTP/2: requests in all the shapes they may come in, and their answers."""

from __future__ import annotations

import pytest
from hyperframe import frame as frames

from tests.unit.edge.native.peer import Application, Connect, Peer, data, fields


async def test_requests_of_one_read_are_all_answered(peer: Peer) -> None:
    """Each on its own stream, in any number."""
    for stream in range(1, 601, 2):
        peer.ask(stream, "/echo", b"%d" % stream)
    for stream in range(1, 601, 2):
        assert await peer.response(stream) == ("200", b"%d" % stream)


async def test_a_request_may_come_byte_by_byte(peer: Peer) -> None:
    """Frames are put together from however many reads."""
    sent = peer.headers(1, fields("/echo"), "END_HEADERS").serialize() + data(1, b"hello", end=True).serialize()
    for byte in sent:
        peer.raw(bytes((byte,)))
        await peer.writer.drain()
    assert await peer.response(1) == ("200", b"hello")


async def test_a_preface_may_come_byte_by_byte(connect: Connect) -> None:
    """Also the first one."""
    peer = await connect()
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames.SettingsFrame(0).serialize():
        peer.raw(bytes((byte,)))
        await peer.writer.drain()
    await peer.alive()


@pytest.mark.parametrize("acknowledge", [False, True])
async def test_repeated_and_changing_sections_are_read_alike(
    connect: Connect, application: Application, acknowledge: bool
) -> None:
    """With the peer's table in use, and without it; known or not."""
    peer = await connect()
    await peer.handshake(acknowledge=acknowledge)
    for stream in range(1, 401, 2):
        more = ("x-number", str(stream % 7)), ("authorization", f"Bearer {stream}")
        peer.send(peer.headers(stream, fields("/echo", *more, ("cookie", "a=1"), ("cookie", "b=2"))))
        await peer.response(stream)
    heads = {head.get("authorization"): head for head in application.heads}
    assert len(heads) == 200
    for stream in range(1, 401, 2):
        head = heads[f"Bearer {stream}"]
        assert head.get("x-number") == str(stream % 7)
        assert head.get("cookie") == "a=1,b=2"


async def test_a_section_in_pieces(peer: Peer) -> None:
    """CONTINUATION frames, an empty one among them."""
    section = peer.encoder.encode(fields("/echo"))
    peer.send(
        frames.HeadersFrame(1, section[:3], flags=["END_STREAM"]),
        frames.ContinuationFrame(1, b""),
        frames.ContinuationFrame(1, section[3:], flags=["END_HEADERS"]),
    )
    assert (await peer.response(1))[0] == "200"


async def test_padding_and_priority_are_taken_off(peer: Peer) -> None:
    """They carry nothing."""
    section = peer.encoder.encode(fields("/echo"))
    padded = frames.HeadersFrame(1, section, pad_length=7, flags=["END_HEADERS", "PADDED", "PRIORITY"])
    padded.depends_on, padded.stream_weight = 0, 3
    peer.send(padded, data(1, b"ab", pad=200), data(1, b"cd", pad=0, end=True))
    assert await peer.response(1) == ("200", b"abcd")


async def test_trailers_end_a_request(peer: Peer) -> None:
    """Their content has no say."""
    trailers = frames.HeadersFrame(1, peer.encoder.encode([("x", "y")]), flags=["END_HEADERS", "END_STREAM"])
    peer.send(peer.headers(1, fields("/echo"), "END_HEADERS"), data(1, b"body"), trailers)
    assert await peer.response(1) == ("200", b"body")


async def test_an_answer_that_must_be_waited_for_holds_up_no_other(peer: Peer, application: Application) -> None:
    """Streams are independent."""
    peer.ask(1, "/wait")
    peer.ask(3, "/echo", b"now")
    assert await peer.response(3) == ("200", b"now")
    application.go.set()
    assert await peer.response(1) == ("200", b"waited")


async def test_a_reset_stream_is_cancelled(peer: Peer, application: Application) -> None:
    """Nobody waits for its answer any more."""
    peer.ask(1, "/wait")
    await application.waiting.wait()
    peer.send(frames.RstStreamFrame(1, 8))
    await application.cancelled.wait()
    application.go.set()
    await peer.alive()
    assert not [frame for frame in peer.seen if frame.stream_id == 1]


async def test_a_lost_connection_is_cancelled(peer: Peer, application: Application) -> None:
    """All its streams are."""
    peer.ask(1, "/wait")
    await application.waiting.wait()
    await peer.close()
    await application.cancelled.wait()


async def test_a_stream_of_answers(peer: Peer, application: Application) -> None:
    """Pieces leave as they come, trailers last."""
    peer.ask(1, "/stream")
    application.pieces.put_nowait(b"one")
    assert (await peer.receive(frames.DataFrame)).data == b"one"
    application.pieces.put_nowait(b"two")
    assert (await peer.receive(frames.DataFrame)).data == b"two"
    application.pieces.put_nowait(b"")
    last = await peer.receive(frames.HeadersFrame)
    assert "END_STREAM" in last.flags


async def test_too_large_a_body_is_answered_at_once_and_then_ignored(peer: Peer) -> None:
    """The connection goes on."""
    peer.send(peer.headers(1, fields("/echo"), "END_HEADERS"), data(1, b"x" * 1001))
    assert await peer.response(1) == ("413", b"too much")
    peer.send(data(1, b"x" * 10000), data(1, b"x", end=True))
    peer.ask(3, "/echo", b"on")
    assert await peer.response(3) == ("200", b"on")


async def test_too_large_a_body_in_one_frame(peer: Peer) -> None:
    """The same with END_STREAM on it."""
    peer.ask(1, "/echo", b"x" * 1001)
    assert await peer.response(1) == ("413", b"too much")
    await peer.alive()


async def test_a_failing_application_costs_its_own_connection(
    peer: Peer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the last resort; applications promise not to fail."""
    peer.ask(1, "/fail")
    assert await peer.goaway() == 2
    other = await connect()
    await other.handshake()
    other.ask(1, "/fail-later")
    assert await other.reset() == (1, 2)
    await other.alive()
    assert "a fault in the application" in caplog.text


async def test_unknown_frames_and_settings_are_ignored(peer: Peer) -> None:
    """RFC 9113 section 5.5."""
    peer.raw(b"\0\0\x03\xee\xff\0\0\0\x07abc" + b"\0\0\x06\x04\0\0\0\0\0\xab\xcd\0\0\0\x01")
    peer.send(frames.PriorityFrame(9, depends_on=0, stream_weight=1), frames.GoAwayFrame(0))
    await peer.alive()


async def test_many_streams_wait_for_the_same_thing(peer: Peer, application: Application) -> None:
    """All are answered when it comes."""
    for stream in range(1, 101, 2):
        peer.ask(stream, "/wait")
    await application.waiting.wait()
    application.go.set()
    bodies = [await peer.receive(frames.DataFrame) for _ in range(50)]
    assert {frame.stream_id for frame in bodies} == set(range(1, 101, 2))
