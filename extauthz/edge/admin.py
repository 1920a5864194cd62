"""The admin listener: liveness, readiness with the reasons in words, metrics, and the console where there is one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

from aiohttp import web

from extauthz.edge.listen import Listening


@dataclass(slots=True)
class Readiness:
    """Whether checks can be answered, in sentences.

    `blockers` tell why none can; `warnings` what is wrong while the last good state keeps serving.
    """

    blockers: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class AdminEdge:
    """Serves `/healthz`, `/readyz` and `/metrics`.

    `metrics` takes an Accept header and returns a body and its content type. `console` is
    served at `/console`.
    """

    def __init__(
        self,
        listening: Listening,
        *,
        readiness: Callable[[], Awaitable[Readiness]],
        metrics: Callable[[str], Awaitable[tuple[bytes, str]]],
        console: web.Application | None = None,
    ) -> None:
        self._listening = listening
        self._readiness = readiness
        self._metrics = metrics
        self._console = console
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listening.port

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._exposition)
        if self._console is not None:
            app.router.add_get("/console", self._to_console)
            app.add_subapp("/console", self._console)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await self._listening.start(cast("web.Server", self._runner.server))

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._listening.stop()
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        told = await self._readiness()
        detail = {"ready": not told.blockers, "blockers": told.blockers, "warnings": told.warnings}
        return web.json_response(detail, status=503 if told.blockers else 200)

    async def _to_console(self, request: web.Request) -> web.Response:
        return web.Response(status=308, headers={"Location": "/console/"})

    async def _exposition(self, request: web.Request) -> web.Response:
        body, content_type = await self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})
