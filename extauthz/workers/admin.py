"""The admin listener of several workers: each is asked, and their answers become one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, cast

from aiohttp import web

from extauthz.edge.listen import Bound
from extauthz.edge.tls import Certificates
from extauthz.settings.listeners import AdminListener
from extauthz.workers.exposition import Counts
from extauthz.workers.worker import Answer

if TYPE_CHECKING:
    from extauthz.workers.supervisor import Supervisor


class SupervisorAdmin:
    """Serves `/healthz`, `/readyz` and `/metrics` for all workers."""

    def __init__(
        self, listener: AdminListener, supervisor: Supervisor, certificates: Certificates | None = None
    ) -> None:
        self._listening = Bound(listener.address, certificates)
        self._supervisor = supervisor
        self._counts = Counts()
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
        app.router.add_get("/metrics", self._metrics)
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
        state = "stopping" if self._supervisor.stopping else "draining" if self._supervisor.draining else ""
        blockers = [state] if state else []
        warnings: list[str] = []
        for number, answer in (await self._ask_all("/readyz")).items():
            if isinstance(answer, str):
                blockers.append(f"worker {number}: {answer}")
                continue
            told = json.loads(answer.body)
            blockers += (f"worker {number}: {blocker}" for blocker in told["blockers"])
            warnings += (f"worker {number}: {warning}" for warning in told["warnings"])
        detail = {"ready": not blockers, "blockers": blockers, "warnings": warnings}
        return web.json_response(detail, status=503 if blockers else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        running = dict(self._supervisor.workers)
        for number, answer in (await self._ask_all("/metrics")).items():
            if isinstance(answer, Answer) and number in running:
                self._counts.hear(running[number], answer.body.decode())
        merged = self._counts.merged(running, restarts=self._supervisor.restarts)
        body, content_type = merged.encode(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _ask_all(self, target: str) -> dict[int, Answer | str]:
        """Return every worker's answer, or why there is none."""
        numbers = self._supervisor.numbers
        return dict(zip(numbers, await asyncio.gather(*(self._ask(number, target) for number in numbers)), strict=True))

    async def _ask(self, number: int, target: str) -> Answer | str:
        worker = self._supervisor.workers.get(number)
        if worker is None:
            return "it is not running"
        try:
            return await worker.ask(target)
        except (OSError, TimeoutError):
            return "it does not answer"
