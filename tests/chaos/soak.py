"""Keep everything changing for a long time: `python -m tests.chaos.soak [--minutes N] [--markdown FILE]`.

Rights come and go, tokens and sessions are new all the time, policies are written again and
watches are cut off. Nobody may pass who has no right, nobody with a right may be refused, no
request may be lost, and memory and open files must stay flat.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.chaos.load import NEVER, Asked, Mixed
from tests.chaos.mesh import ChaosMesh
from tests.chaos.running import until_told, write_markdown
from tests.integration.cluster import owner

SETTLING_SECONDS = 1.0
SLACK_SECONDS = 1.0
"""What a change may take to be acknowledged, seen and acted on, beside the settling time, on a busy machine."""
CHURN_SECONDS, POLICY_SECONDS, CUT_SECONDS = 3.0, 10.0, 20.0
SAMPLE_SECONDS = 10.0
GROWTH_LIMIT_MB, DESCRIPTOR_LIMIT = 24.0, 40
COLUMNS = ("minute", "requests", "served", "wrong allows", "wrong refusals", "lost", "memory MB", "open files")


class Rights:
    """Who has which rights, and since when: the oracle. Alice's in team-a come and go; bob's in team-b stay."""

    def __init__(self, mesh: ChaosMesh) -> None:
        self._mesh = mesh
        self._granted = True
        self._changed = 0.0

    async def churn(self) -> None:
        """Take alice's right away and give it back, for ever."""
        while True:
            await asyncio.sleep(CHURN_SECONDS)
            if self._granted:
                await self._mesh.cluster.delete(owner("a"))
            else:
                await self._mesh.cluster.apply(owner("a"))
            self._granted, self._changed = not self._granted, time.monotonic()

    def may(self, who: str, team: str) -> bool:
        """Whether somebody may pass now: for the settling time an old right may still count."""
        if (who, team) == ("alice", "a"):
            return self._granted or time.monotonic() - self._changed < SETTLING_SECONDS + SLACK_SECONDS
        return (who, team) == ("bob", "b")

    def must(self, asked: Asked) -> bool:
        """Whether somebody must pass who asked then; of a right that just came nothing is said."""
        if asked.kind in NEVER:
            return False
        if (asked.who, asked.team) == ("alice", "a"):
            return self._granted and asked.sent > self._changed + SETTLING_SECONDS + SLACK_SECONDS
        return (asked.who, asked.team) == ("bob", "b")


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen up to a moment."""

    minute: float
    requests: int
    served: int
    wrong: int
    refused: int
    lost: int
    memory_mb: float
    descriptors: int

    def cells(self) -> list[str]:
        """Return the sample as text."""
        counts = (self.requests, self.served, self.wrong, self.refused, self.lost)
        return [f"{self.minute:.1f}", *map(str, counts), f"{self.memory_mb:.0f}", str(self.descriptors)]


class Judged(Mixed):
    """The load, which also counts who was refused with a right."""

    def __init__(self, mesh: ChaosMesh, session: ClientSession, rights: Rights) -> None:
        super().__init__(mesh, session, rights.may)
        self.refused = 0
        self._rights = rights

    def note(self, asked: Asked, *, may: bool) -> None:
        super().note(asked, may=may)
        if asked.status in (401, 403) and self._rights.must(asked):
            self.refused += 1


class Soak:
    """The counts of a run; what has been counted is forgotten, so that the run itself stays flat."""

    def __init__(self, mesh: ChaosMesh, load: Judged) -> None:
        self._mesh, self._load = mesh, load
        self._began = time.monotonic()
        self._requests = self._served = self._refused = self._lost = 0

    def sample(self) -> Sample:
        """Count what has come since the last time."""
        asked, self._load.asked = self._load.asked, []
        self._requests += len(asked)
        self._served += sum(each.passed for each in asked)
        lost = [each for each in asked if each.status not in (200, 401, 403)]
        for each in lost:
            print(f"soak: lost {each}", file=sys.stderr)
        self._lost += len(lost)
        minute = (time.monotonic() - self._began) / 60
        counts = (self._requests, self._served, len(self._load.wrong), self._load.refused, self._lost)
        return Sample(minute, *counts, self._mesh.resident_mb(), self._mesh.descriptors())


async def rewrite_policies(mesh: ChaosMesh) -> None:
    """Write a policy file again, with another comment each time."""
    file = mesh.policies / "pipelines-v2beta1.yaml"
    content = file.read_text()
    for number in itertools.count():
        await asyncio.sleep(POLICY_SECONDS)
        file.write_text(f"{content}# written {number} times\n")


async def cut_watches(mesh: ChaosMesh) -> None:
    """Break every connection to the API server for a moment."""
    while True:
        await asyncio.sleep(CUT_SECONDS)
        await mesh.proxies["API server"].break_("down")
        await mesh.proxies["API server"].heal()


async def run(minutes: float) -> list[Sample]:
    """Run for so long; return what was seen, sample by sample."""
    samples: list[Sample] = []
    client = ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=10))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        async with ChaosMesh(Path(folder)) as mesh, client as session:
            rights = Rights(mesh)
            load = Judged(mesh, session, rights)
            soak = Soak(mesh, load)
            async with load.running(), _background(rights.churn(), rewrite_policies(mesh), cut_watches(mesh)):
                while not samples or samples[-1].minute < minutes:
                    await asyncio.sleep(SAMPLE_SECONDS)
                    samples.append(soak.sample())
                    print(f"soak: {' | '.join(samples[-1].cells())}", file=sys.stderr, flush=True)
    return samples


def faults(samples: list[Sample]) -> list[str]:
    """Return which promises broke."""
    last, warm = samples[-1], samples[len(samples) // 4]
    found = {
        f"{last.wrong} requests passed without a right": last.wrong,
        f"{last.refused} requests with a right were refused": last.refused,
        f"{last.lost} requests were lost": last.lost,
        "memory grows": last.memory_mb > warm.memory_mb + GROWTH_LIMIT_MB,
        "open files grow": last.descriptors > warm.descriptors + DESCRIPTOR_LIMIT,
    }
    return [sentence for sentence, broken in found.items() if broken]


@contextlib.asynccontextmanager
async def _background(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not ended, ended


def main() -> int:
    """Run; print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long to run (default: 10)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table into a file, too")
    options = parser.parse_args()
    samples = asyncio.run(until_told(run(options.minutes)))
    if options.markdown:
        write_markdown(options.markdown, COLUMNS, [sample.cells() for sample in samples])
    broken = faults(samples)
    print("soak: " + ("; ".join(broken) or "every promise held"))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
