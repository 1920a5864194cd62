"""HTTP/1.1 (RFC 9112) for a server that answers whole requests.

Promises: answers come in the order of the requests, all of one read in one write; what is no
request that reads in one way only is refused and ends the connection; requests that come slowly,
and peers that do not read, are cut off; while an answer must be waited for, nothing is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from http import HTTPStatus
from typing import Protocol

from extauthz.edge.native.peer import PeerProtocol
from extauthz.edge.native.requests import BadRequest, Http1Limits, Incoming, RequestReader
from extauthz.edge.native.server import Connections

FLUSH_BYTES = 128 * 1024
"""So much is handed to the transport at once; it may say then that it is full."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n\r\n"


class Response:
    """An answer, written once: its head without the empty line, its body, and both together."""

    __slots__ = ("body", "head", "whole")

    def __init__(self, status: int, headers: Iterable[tuple[str, str]], body: bytes = b"") -> None:
        """Raises ValueError for a header that would not be one line."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
        if any("\r" in line or "\n" in line or "\0" in line for line in lines):
            raise ValueError("a header of a response is not one line")
        text = "\r\n".join([*lines, f"content-length: {len(body)}", ""])
        self.head = text.encode("utf-8", "surrogateescape")
        self.body = body
        self.whole = self.head + b"\r\n" + body

    def written(self, *, last: bool, bodiless: bool) -> bytes:
        """Return the bytes to send; `last` announces that the connection ends."""
        return self.head + (_CLOSE if last else b"\r\n") + (b"" if bodiless else self.body)


class Application(Protocol):
    """What stands behind a connection."""

    def recall(self, head: bytes) -> Response | None:
        """Return the answer to a whole request without a body, if it is known already."""
        ...

    def answer(self, asked: Incoming) -> Response | Awaitable[Response]:
        """Answer a request. Neither this nor its awaitable raises."""
        ...

    def refuse(self, status: int) -> Response:
        """Answer what is no request, with status 400 or another that tells what is wrong."""
        ...


class Http1Connection(PeerProtocol):
    """Serves one connection."""

    def __init__(
        self, application: Application, limits: Http1Limits, connections: Connections, *, max_body_bytes: int
    ) -> None:
        super().__init__(connections, send_seconds=limits.send_seconds)
        self._application = application
        self._limits = limits
        self._reader = RequestReader(limits, max_body_bytes)
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._refused: int | None = None
        self._draining = connections.draining
        self._begun = 0
        self._changed = self.loop.time()
        """About when the last request began."""

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._task is not None:
            self.loop.call_soon(self._task.cancel)  # not before it has begun to await

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        if self._is_idle() and (known := self._application.recall(data)):
            self._reader.begun += 1
            self.transport.write(known.whole)
            return
        try:
            self._reader.feed(data)
        except BadRequest as error:
            self._refuse(error.status)
        self.work()

    def eof_received(self) -> bool:
        self._reader.ended = True
        self.work()
        return not self.closing

    def tick(self, now: float) -> None:
        """Cut off what takes too long."""
        super().tick(now)
        if self.closing:
            return
        if self._reader.begun != self._begun:
            self._begun, self._changed = self._reader.begun, now
        if self._task is None and not self._reader.ready and not self.full:
            self._judge(now - self._changed)

    def drain(self) -> None:
        """Announce the end with the next answer; who asks nothing until the next tick is closed then."""
        self._draining = True

    def work(self) -> None:
        """Answer what has been asked, until something must be waited for."""
        ready = self._reader.ready
        while ready and self._task is None and not self.full and not self.closing:
            asked = ready.popleft()
            if asked is None:
                self._out.append(_CONTINUE)
                continue
            answer = self._application.answer(asked)
            if isinstance(answer, Response):
                self._write(asked, answer)
            else:
                self.transport.pause_reading()
                self._task = self.loop.create_task(self._later(asked, answer))
        self._flush()
        if self._task is None and not ready and not self.closing:
            self._finish()

    def _is_idle(self) -> bool:
        """Whether an answer could be written at once, and nothing else need be done then."""
        return self._reader.resting and self._task is None and not self.full and not self._draining

    def _write(self, asked: Incoming, answer: Response) -> None:
        last = asked.last or (self._draining and not self._reader.ready and not self._reader.within)
        bodiless = asked.method == "HEAD"
        content = answer.written(last=last, bodiless=bodiless) if last or bodiless else answer.whole
        self._out.append(content)
        self._out_bytes += len(content)
        if last:
            self._reader.ready.clear()
            self._reader.ended = True
            self._refused = None
        if self._out_bytes >= FLUSH_BYTES:
            self._flush()

    async def _later(self, asked: Incoming, answer: Awaitable[Response]) -> None:
        response = await answer
        self._task = None
        self._write(asked, response)
        self._flush()
        self._resume()

    def _finish(self) -> None:
        """End the connection where nothing more is to come."""
        if self._refused is not None:
            self.transport.write(self._application.refuse(self._refused).written(last=True, bodiless=False))
        if self._reader.ended:
            self.end()

    def _refuse(self, status: int) -> None:
        self._reader.ended = True
        self._refused = status

    def _judge(self, seconds: float) -> None:
        """Judge a connection from which nothing new has come for a time."""
        limits = self._limits
        if self._reader.within and seconds > limits.arrive_seconds:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        elif not self._reader.within:
            patience = limits.idle_seconds if self._reader.begun else limits.arrive_seconds
            self._reader.ended |= self._draining or seconds > patience
        self.work()

    def _flush(self) -> None:
        if self._out:
            content = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self.transport.write(content)
