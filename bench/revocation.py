"""How long a right lives after its RoleBinding is deleted, seen by a user behind Envoy.

    python -m bench.revocation [--iterations 100] [--json FILE] [--kubeconfig FILE [--context NAME]]

Without a kubeconfig the test API server runs as its own process; with one, a namespace
`extauthz-bench` is made in that cluster and deleted in the end. A user asks without a pause
through both of Envoy's listeners, on a warm cache. Measured are the times from the API
server's acknowledgement of the delete, and from the watch's event, to the first refusal;
and counted are the allows that still came once the settling time was over.

The user, extauthz and this program share one process, so the times hold all their work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import uvloop
from aiohttp import ClientSession

from extauthz.access.kubernetes.connection import Connection
from extauthz.demo.mesh import DemoMesh
from extauthz.review import ResourceAttributes
from extauthz.settings import ReviewCacheSettings
from extauthz.subject import Subject
from tests.apiserver.cluster import Cluster, write_kubeconfig
from tests.apiserver.manifests import binding, namespace, role, rule, user
from tests.apiserver.tokens import ADMIN
from tests.integration.cluster import Clients, ready, settings

MODES = ("grpc", "http")
PLACE = "extauthz-bench"
ALICE = Subject.authenticated("alice@example.com")
GROUP = "pipelines.kubeflow.org"
LIST_RUNS = ResourceAttributes("list", GROUP, "v1beta1", "runs", namespace=PLACE)
PATH = f"/pipeline/apis/v2beta1/runs?namespace={PLACE}"
ROLE = role("runs", rule(["list"], ["runs"], [GROUP]), namespace=PLACE)
GRANT = binding("alice", "runs", user(ALICE.user), namespace=PLACE, kind="Role")
SETTLING_SECONDS = ReviewCacheSettings().settling_seconds


@dataclass(slots=True)
class Series:
    """What one mode measured; times in milliseconds."""

    from_acknowledged: list[float] = field(default_factory=list)
    from_event: list[float] = field(default_factory=list)
    allowed_after_settling: int = 0


class User:
    """Asks without a pause, and remembers when each request was sent, when it was answered, and whether it passed."""

    def __init__(self, clients: Clients, mode: str) -> None:
        self.asked: list[tuple[float, float, bool]] = []
        self._clients = clients
        self._mode = mode
        self._pulse = asyncio.Event()

    async def ask(self) -> None:
        """Ask until cancelled."""
        while True:
            sent = perf_counter()
            status = await self._clients.status("alice", PATH, mode=self._mode)
            self.asked.append((sent, perf_counter(), status == 200))
            pulse, self._pulse = self._pulse, asyncio.Event()
            pulse.set()

    async def until(self, passed: bool) -> float:
        """Wait for an answer of this kind; return when it came."""
        self.asked.clear()
        while not self.asked or self.asked[-1][2] is not passed:
            await self._pulse.wait()
        return self.asked[-1][1]


async def write(cluster: Connection, method: str, manifest: dict[str, Any]) -> None:
    """Create or delete an object as the administrator."""
    path = Cluster.path(manifest)
    body = json.dumps(manifest).encode() if method == "POST" else None
    answer = await cluster.request(method, path.rpartition("/")[0] if body else path, body=body, timeout=30)
    if answer.status not in (200, 201, 202):
        raise SystemExit(f"{method} {path}: HTTP {answer.status}: {answer.body.decode()}")


async def measure(kubeconfig: Path, iterations: int, folder: Path, context: str | None) -> dict[str, Series]:
    """Grant and revoke as often as told."""
    results = {mode: Series() for mode in MODES}
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(await Connection.open(kubeconfig=kubeconfig, context=context))
        for manifest in (namespace(PLACE), ROLE):
            await write(cluster, "POST", manifest)
        stack.push_async_callback(write, cluster, "DELETE", namespace(PLACE))
        overlay = settings(kubeconfig, **({"context": context} if context else {}))
        mesh = await stack.enter_async_context(DemoMesh(folder, settings=overlay))
        session = await stack.enter_async_context(ClientSession())
        users = {mode: User(Clients(mesh, session), mode) for mode in MODES}
        await ready(mesh)
        asking = [asyncio.create_task(user.ask()) for user in users.values()]
        for number in range(iterations):
            await revoke(cluster, mesh, users, results)
            print(f"\r{number + 1} of {iterations}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return results


async def revoke(cluster: Connection, mesh: DemoMesh, users: dict[str, User], results: dict[str, Series]) -> None:
    """Grant, let the answer be kept, revoke, and see when each user notices."""
    authority = await ready(mesh)
    generations = authority.cached.kept.generations
    await write(cluster, "POST", GRANT)
    await asyncio.gather(*(user.until(passed=True) for user in users.values()))
    await asyncio.sleep(SETTLING_SECONDS)
    await asyncio.gather(*(user.until(passed=True) for user in users.values()))
    epoch = generations.epoch

    async def event() -> float:
        await authority.watch.wait_until(lambda: not generations.unchanged_since(epoch, ALICE, LIST_RUNS))
        return perf_counter()

    seen = asyncio.create_task(event())
    refused = [asyncio.create_task(user.until(passed=False)) for user in users.values()]
    await write(cluster, "DELETE", GRANT)
    acknowledged = perf_counter()
    seen_at = await seen
    for mode, refused_at in zip(users, await asyncio.gather(*refused), strict=True):
        results[mode].from_acknowledged.append((refused_at - acknowledged) * 1000)
        results[mode].from_event.append((refused_at - seen_at) * 1000)
    await asyncio.sleep(SETTLING_SECONDS + 0.1)
    for mode, each in users.items():
        late = [passed for sent, _, passed in each.asked if passed and sent > seen_at + SETTLING_SECONDS]
        results[mode].allowed_after_settling += len(late)


@asynccontextmanager
async def test_server(folder: Path) -> AsyncIterator[Path]:
    """Run the test API server as its own process; yield its administrator's kubeconfig."""
    command = (sys.executable, "-m", "tests.apiserver", "--folder", str(folder))
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        assert process.stdout
        url = json.loads(await process.stdout.readline())["url"]
        yield write_kubeconfig(folder / "administrator", {"server": url}, {"token": ADMIN})
    finally:
        process.kill()
        await process.wait()


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile; 50 is the median."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the figures to print, in milliseconds."""
    return {"p50": percentile(values, 50), "p99": percentile(values, 99), "max": max(values)}


async def run(arguments: argparse.Namespace) -> dict[str, Series]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kubeconfig = arguments.kubeconfig or await stack.enter_async_context(test_server(folder))
        return await measure(kubeconfig, arguments.iterations, folder, arguments.context)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--kubeconfig", type=Path)
    parser.add_argument("--context")
    arguments = parser.parse_args()
    results = uvloop.run(run(arguments))
    print(f"{'mode':5} {'from':13} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'allowed after settling':>23}")
    for mode, series in results.items():
        for since, values in (("acknowledged", series.from_acknowledged), ("watch event", series.from_event)):
            told = summary(values)
            late = series.allowed_after_settling
            print(f"{mode:5} {since:13} {told['p50']:8.1f} {told['p99']:8.1f} {told['max']:8.1f} {late:23}")
    if arguments.json:
        server = "own kubeconfig" if arguments.kubeconfig else "test API server"
        where = {"server": server, "python": platform.python_version(), "machine": platform.platform()}
        figures = {mode: asdict(series) for mode, series in results.items()}
        arguments.json.write_text(json.dumps({**where, "milliseconds": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
