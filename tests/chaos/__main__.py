"""Break one thing after the other under load: `python -m tests.chaos [--markdown FILE] [FAULT…]`.

For each fault: is anybody let pass who may not, does the service live, do memory and queues
stay bounded, and how long after its end until everybody with rights is served again?
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.chaos import faults
from tests.chaos.load import NEVER, TOLD, Mixed
from tests.chaos.mesh import ChaosMesh
from tests.chaos.running import show, until_told

CALM_REQUESTS, FAULT_SECONDS = 300, 5
SERVED_IN_A_ROW = 40
RECOVERY_LIMIT_SECONDS = 45
GROWTH_LIMIT_MB = 64
QUEUE_LIMIT = 512
ENTITLED = {("alice", "a"), ("bob", "b")}
COLUMNS = ("fault", "requests", "served", "wrong allows", "crashes", "memory MB", "queue", "recovery s", "holds")


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault did. `served` is how many per cent of the requests with rights passed meanwhile."""

    fault: str
    requests: int
    served: int
    wrong: int
    crashes: int
    growth_mb: float
    queue: int
    recovery_seconds: float

    @property
    def holds(self) -> bool:
        bounded = self.growth_mb <= GROWTH_LIMIT_MB and self.queue <= QUEUE_LIMIT
        return not self.wrong and not self.crashes and bounded and self.recovery_seconds <= RECOVERY_LIMIT_SECONDS

    def cells(self) -> list[str]:
        """Return the row as text."""
        numbers = (self.requests, f"{self.served} %", self.wrong, self.crashes, f"{self.growth_mb:+.0f}", self.queue)
        recovery = f"{self.recovery_seconds:.1f}"
        return [self.fault, *map(str, numbers), recovery, "yes" if self.holds else "NO"]


def main() -> int:
    """Run the faults that are named, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to a file, too")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="by name, or a part of it (default: all)")
    options = parser.parse_args()
    names = [name for name in faults.ALL if not options.faults or any(part in name for part in options.faults)]
    if not names:
        parser.error(f"no such fault; there are {', '.join(faults.ALL)}")
    rows = asyncio.run(until_told(_run(names)))
    show("Faults under load", COLUMNS, [(row.cells(), row.holds) for row in rows], options.markdown)
    return 0 if all(row.holds for row in rows) else 1


async def _run(names: list[str]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with ChaosMesh(Path(folder)) as mesh, _client() as session:
            load = Mixed(mesh, session, lambda who, team: (who, team) in ENTITLED)
            async with load.running():
                await load.until(lambda: len(load.asked) >= CALM_REQUESTS)
                return [await _row(name, mesh, load, session) for name in names]


async def _row(name: str, mesh: ChaosMesh, load: Mixed, session: ClientSession) -> Row:
    restarts = name == "service killed"
    memory, first, queue, wrong = mesh.resident_mb(), load.sent, 0, len(load.wrong)
    loop = asyncio.get_running_loop()
    async with faults.ALL[name](mesh):
        end = loop.time() + FAULT_SECONDS
        while loop.time() < end:
            queue = max(queue, _waiting(await mesh.metrics(session)) if mesh.alive else 0)
            await asyncio.sleep(0.2)
        last = load.sent
    healed = loop.time()
    crashes = 0 if mesh.alive else 1
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(load.until(lambda: _recovered(load, last)), RECOVERY_LIMIT_SECONDS + 1)
    recovery = loop.time() - healed
    asked = [each for each in load.since(first) if each.number < last]
    assert {each.status for each in asked} <= TOLD | {0, 500, 502, 504}, {each.status for each in asked}
    with_rights = [each for each in asked if _may(each.who, each.team, each.kind)]
    served = 100 * sum(each.passed for each in with_rights) // max(1, len(with_rights))
    growth = 0.0 if restarts else mesh.resident_mb() - memory
    row = Row(name, len(asked), served, len(load.wrong) - wrong, crashes, growth, queue, recovery)
    print(f"chaos: {' | '.join(row.cells())}", file=sys.stderr, flush=True)
    return row


def _may(who: str, team: str, kind: str) -> bool:
    return (who, team) in ENTITLED and kind not in NEVER


def _recovered(load: Mixed, number: int) -> bool:
    """Whether so many requests with rights, sent one after the other since then, have all passed."""
    recent = sorted(load.since(number), key=lambda each: each.number)
    served = [each.passed for each in recent if _may(each.who, each.team, each.kind)]
    return len(served) >= SERVED_IN_A_ROW and all(served[-SERVED_IN_A_ROW:])


def _waiting(metrics: str) -> int:
    return sum(int(float(found)) for found in re.findall(r"^extauthz_reviews_waiting (\S+)", metrics, re.MULTILINE))


def _client() -> ClientSession:
    return ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=10))


if __name__ == "__main__":
    sys.exit(main())
