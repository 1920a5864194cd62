"""A lookup and the API that it asks, in the test's hands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extauthz.found import Found
from extauthz.lookup.kfp import KfpLookup
from extauthz.settings import KfpLookupSettings
from tests.kfp import KfpServer

PATIENCE = 5.0


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """Everything a test of lookups needs at hand."""

    kfp: KfpServer
    lookup: KfpLookup
    token_file: Path
    clock: Clock = field(default_factory=Clock)

    async def ask(self, kind: str, identifier: str, user: str = "alice") -> Found | None:
        """Look one object up, from memory or over the wire."""
        answer = self.lookup.namespace(kind, identifier, user)
        return answer if answer is None or isinstance(answer, Found) else await answer


@asynccontextmanager
async def desk(folder: Path, **settings: Any) -> AsyncIterator[Desk]:
    """Serve the API and start a lookup that asks it."""
    async with KfpServer.running() as kfp:
        clock, token_file = Clock(), kfp.token_file(folder)
        given = {"url": kfp.url, "token_file": token_file, "timeout_seconds": PATIENCE, **settings}
        lookup = KfpLookup(KfpLookupSettings.model_validate(given), clock=clock)
        await lookup.start()
        try:
            yield Desk(kfp, lookup, token_file, clock)
        finally:
            await lookup.stop()
