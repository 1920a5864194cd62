"""A TLS front for a backend that can be broken in every way in which servers break."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal, Self, get_args

from tests.apiserver.pki import Pki

Fault = Literal["down", "slow", "hanging", "garbage", "TLS broken"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

SLOW_SECONDS = 0.7
GARBAGE = b"\x00\xff<html>HTTP/1.1 200 maybe\r\n\r\n{]"


class Proxy:
    """Passes bytes to a port of 127.0.0.1 and back, as an async context manager."""

    def __init__(self, port: int, pki: Pki, stranger: Pki) -> None:
        """`stranger` is an authority that nobody trusts."""
        self.port = 0
        self._backend = port
        self._contexts = {"good": pki.server_context(), "bad": stranger.server_context()}
        self._fault: Fault | None = None
        self._healed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address to ask."""
        return f"https://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._listen("good")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._healed.set()
        await self._close()

    async def break_(self, fault: Fault) -> None:
        """Begin to fail."""
        self._fault = fault
        self._healed.clear()
        if fault in ("down", "TLS broken"):
            await self._close()
        if fault == "TLS broken":
            await self._listen("bad")

    async def heal(self) -> None:
        """End the fault; what hung goes on."""
        fault, self._fault = self._fault, None
        self._healed.set()
        if fault in ("down", "TLS broken"):
            await self._close()
            await self._listen("good")

    async def _listen(self, context: str) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._contexts[context], backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for way in self._passing:
            way.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, questions = await asyncio.open_connection("127.0.0.1", self._backend)
        except OSError:
            writer.transport.abort()
            return
        ways = {
            asyncio.create_task(self._pass(reader, questions, back=False)),
            asyncio.create_task(self._pass(answers, writer, back=True)),
        }
        self._passing |= ways
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        writer.transport.abort()
        questions.transport.abort()
        await asyncio.gather(*ways, return_exceptions=True)
        self._passing -= ways

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, back: bool) -> None:
        with contextlib.suppress(OSError):
            while content := await source.read(65536):
                if self._fault == "hanging":
                    await self._healed.wait()
                elif self._fault == "slow" and back:
                    await asyncio.sleep(SLOW_SECONDS)
                elif self._fault == "garbage" and back:
                    content = GARBAGE
                target.write(content)
                await target.drain()
