"""What the admin listener of several workers tells: each is asked, and their answers become one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from extauthz.edge.admin import Readiness
from extauthz.workers.exposition import Counts
from extauthz.workers.worker import Answer

if TYPE_CHECKING:
    from extauthz.workers.supervisor import Supervisor


class Workforce:
    """Asks all workers of a supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._counts = Counts()

    async def readiness(self) -> Readiness:
        """Return what every worker says of itself; one that does not answer is not ready."""
        state = "stopping" if self._supervisor.stopping else "draining" if self._supervisor.draining else ""
        told = Readiness([state] if state else [])
        for number, answer in (await self._ask_all("/readyz")).items():
            if isinstance(answer, str):
                told.blockers.append(f"worker {number}: {answer}")
                continue
            of_worker = json.loads(answer.body)
            told.blockers += (f"worker {number}: {blocker}" for blocker in of_worker["blockers"])
            told.warnings += (f"worker {number}: {warning}" for warning in of_worker["warnings"])
        return told

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of all workers as one text and its content type, as an `Accept` header asks for."""
        running = dict(self._supervisor.workers)
        for number, answer in (await self._ask_all("/metrics")).items():
            if isinstance(answer, Answer) and number in running:
                self._counts.hear(running[number], answer.body.decode())
        return self._counts.merged(running, restarts=self._supervisor.restarts).encode(accept)

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
