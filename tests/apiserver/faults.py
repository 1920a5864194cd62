"""What can go wrong between us and an API server, each on a test's command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Gate:
    """Holds whoever passes until it is opened, and tells how many have come."""

    def __init__(self) -> None:
        self.arrived = 0
        self.abandoned = asyncio.Event()
        """Set when somebody was broken off while waiting: the client closed its connection."""
        self._open = asyncio.Event()
        self._came = asyncio.Condition()

    async def enter(self) -> None:
        """Pass through, waiting while the gate is closed."""
        async with self._came:
            self.arrived += 1
            self._came.notify_all()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.abandoned.set()
            raise

    async def reached(self, count: int = 1) -> None:
        """Wait until so many have come in all."""
        async with self._came:
            await self._came.wait_for(lambda: self.arrived >= count)

    def open(self) -> None:
        """Let everyone pass, now and later."""
        self._open.set()


@dataclass(slots=True)
class Injected:
    """A fault in place: what it meets, how often still, and how often it struck."""

    path: str
    fault: Fault
    times: float
    hits: int = 0

    def strikes(self, path: str) -> bool:
        if self.hits >= self.times or self.path not in path:
            return False
        self.hits += 1
        return True


def answer(status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> Fault:
    """Answer with a status and a body: bytes as they are, anything else as JSON, None as a Kubernetes Status."""

    async def fault(_: web.Request) -> web.Response:
        content = body if isinstance(body, bytes) else json.dumps(_status(status) if body is None else body).encode()
        return web.Response(status=status, body=content, content_type="application/json", headers=headers)

    return fault


def reset() -> Fault:
    """Break the connection without an answer, as a server does that closes an idle connection too late."""

    async def fault(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return fault


def hold(gate: Gate) -> Fault:
    """Wait at the gate, then answer as usual: a slow server."""

    async def fault(_: web.Request) -> None:
        await gate.enter()

    return fault


def hang() -> Fault:
    """Never answer."""
    return hold(Gate())


def _status(code: int) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": f"injected {code}", "code": code}
