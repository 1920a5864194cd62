"""An HTTP/2 client that sends whatever a test wants, frame by frame, and an application that does what a path says.

Frames are hyperframe's and field sections hpack's, so nothing here shares code with the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import hpack
from hyperframe import frame as frames
from hyperframe.frame import Frame

from extauthz.edge.listen import Bound
from extauthz.edge.native.h2.connection import Connection
from extauthz.edge.native.h2.fields import Head, encode
from extauthz.edge.native.h2.limits import Limits
from extauthz.edge.native.h2.message import Response, Streaming
from extauthz.edge.native.server import Server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = ((":method", "GET"), (":scheme", "http"), (":path", "/echo"), (":authority", "x"))
SECONDS = 10
F = TypeVar("F", bound=Frame)


def fields(path: str, *more: tuple[str, str], method: str = "POST") -> list[tuple[str, str]]:
    """Return a request's fields."""
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x"), *more]


class Application:
    """Answers by path: `/echo` the body, `/wait` once `go` is set, `/big/N` N bytes, `/stream` pieces from a queue."""

    def __init__(self, max_body: int = 1000) -> None:
        self.max_body = max_body
        self.go = asyncio.Event()
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.heads: list[Head] = []

    def route(self, head: Head) -> PathRoute:
        self.heads.append(head)
        return PathRoute(self, head)


class PathRoute:
    """One request to the application."""

    def __init__(self, application: Application, head: Head) -> None:
        self._application = application
        self._path = head.path
        self.max_body = application.max_body

    def answer(self, body: bytes) -> Response | Streaming | Awaitable[Response]:
        kind, _, rest = self._path[1:].partition("/")
        if kind == "wait":
            return self._wait()
        if kind == "stream":
            return Streaming(encode([(b":status", b"200")]), self._pieces(), encode([(b"end", b"yes")]))
        if kind == "fail":
            raise RuntimeError("a fault in the application")
        if kind == "fail-later":
            return self._fail()
        return answer(b"x" * int(rest) if kind == "big" else body)

    def overflow(self, body: bytes) -> Response:
        return Response(encode([(b":status", b"413")]), b"too much")

    async def _wait(self) -> Response:
        self._application.waiting.set()
        try:
            await self._application.go.wait()
        except asyncio.CancelledError:
            self._application.cancelled.set()
            raise
        return answer(b"waited")

    async def _fail(self) -> Response:
        raise RuntimeError("a fault in the application")

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        while piece := await self._application.pieces.get():
            yield piece


def answer(body: bytes) -> Response:
    return Response(encode([(b":status", b"200")]), body, encode([(b"end", b"yes")]) if body else b"")


class Peer:
    """A connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.seen: list[Frame] = []

    async def handshake(self, settings: dict[int, int] | None = None, *, acknowledge: bool = True) -> None:
        """Exchange prefaces and settings."""
        self.raw(PREFACE + frames.SettingsFrame(0, settings=settings or {}).serialize())
        await self.receive(frames.SettingsFrame)
        if acknowledge:
            self.encoder.header_table_size = 0
            self.send(frames.SettingsFrame(0, flags=["ACK"]))
        while "ACK" not in (await self.receive(frames.SettingsFrame)).flags:
            pass

    def raw(self, content: bytes) -> None:
        self.writer.write(content)

    def send(self, *sent: Frame) -> None:
        self.raw(b"".join(frame.serialize() for frame in sent))

    def headers(self, stream: int, content: list[tuple[str, str]] | None = None, *flags: str) -> frames.HeadersFrame:
        """Return a HEADERS frame; without flags it is whole and ends the stream."""
        section = self.encoder.encode(content if content is not None else list(GET))
        return frames.HeadersFrame(stream, section, flags=flags or ("END_HEADERS", "END_STREAM"))

    def ask(self, stream: int, path: str, body: bytes = b"") -> None:
        """Send a whole request."""
        self.send(self.headers(stream, fields(path), "END_HEADERS"), data(stream, body, end=True))

    async def frame(self) -> Frame:
        """Return the next frame."""
        async with asyncio.timeout(SECONDS):
            head = await self.reader.readexactly(9)
            frame, length = Frame.parse_frame_header(memoryview(head))
            frame.parse_body(memoryview(await self.reader.readexactly(length)))
        self.seen.append(frame)
        return frame

    async def receive(self, kind: type[F]) -> F:
        """Return the next frame of a kind; others are skipped."""
        while True:
            frame = await self.frame()
            if isinstance(frame, kind):
                return frame

    async def response(self, stream: int) -> tuple[str, bytes]:
        """Return the status and the body of the answer on a stream, the next to end."""
        status, body = "", b""
        while True:
            frame = await self.frame()
            if isinstance(frame, frames.HeadersFrame):
                section = self.decoded(frame)
                if frame.stream_id == stream:
                    status = status or section.get(":status", "")
            elif isinstance(frame, frames.DataFrame) and frame.stream_id == stream:
                body += frame.data
            if frame.stream_id == stream and "END_STREAM" in frame.flags:
                return status, body

    def decoded(self, frame: frames.HeadersFrame) -> dict[str, str]:
        """Return the fields of a response."""
        return {str(name): str(value) for name, value in self.decoder.decode(frame.data)}

    async def goaway(self) -> int:
        """Return the code that the connection ends with, once it has ended."""
        code = (await self.receive(frames.GoAwayFrame)).error_code
        async with asyncio.timeout(SECONDS):
            await self.reader.read()
        return int(code)

    async def reset(self) -> tuple[int, int]:
        """Return stream and code of the next RST_STREAM."""
        frame = await self.receive(frames.RstStreamFrame)
        return frame.stream_id, frame.error_code

    async def alive(self) -> None:
        """Make sure that the connection still answers."""
        self.send(frames.PingFrame(0, b"12345678"))
        while (await self.receive(frames.PingFrame)).opaque_data != b"12345678":
            pass

    async def close(self) -> None:
        self.writer.close()


def data(stream: int, body: bytes = b"", *, end: bool = False, pad: int | None = None) -> frames.DataFrame:
    flags = ["END_STREAM"] if end else []
    if pad is not None:
        return frames.DataFrame(stream, body, pad_length=pad, flags=[*flags, "PADDED"])
    return frames.DataFrame(stream, body, flags=flags)


Connect = Callable[[], Awaitable[Peer]]


@asynccontextmanager
async def served(application: Application, limits: Limits | None = None) -> AsyncIterator[tuple[Server, Connect]]:
    """Run a server; what is yielded with it opens connections."""
    server = Server(Bound("127.0.0.1:0"), lambda open_: Connection(application, limits or Limits(), open_))
    await server.start()
    peers: list[Peer] = []

    async def connect() -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", server.port)))
        return peers[-1]

    try:
        yield server, connect
    finally:
        for peer in peers:
            await peer.close()
        await server.stop(0)
