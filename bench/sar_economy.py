"""How many SubjectAccessReviews a session of the Kubeflow UI costs the API server.

    python -m bench.sar_economy [--requests 1000] [--json FILE]

The UI sends ten and more identical requests at a time (kubeflow/pipelines#10778). They go
through Envoy; what counts is what the test API server says it was asked, once with an
empty cache and once with a warm one. A count, so the machine's speed does not matter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import ClientSession

from extauthz.demo.mesh import DemoMesh
from extauthz.settings import ReviewCacheSettings
from tests.apiserver import Double
from tests.integration.cluster import Clients, demo_manifests, ready, settings

API = "/pipeline/apis/v2beta1"
ARTIFACT = "/pipeline/artifacts/get?source=minio&bucket=mlpipeline&key=private-artifacts/team-a/run-1/model.bin"
SESSION = (
    f"{API}/runs?namespace=team-a",
    f"{API}/recurringruns?namespace=team-a",
    f"{API}/experiments?namespace=team-a",
    f"{API}/pipelines?namespace=team-a",
    f"{ARTIFACT}&namespace=team-a",
    "/notebook/team-a/nb/",
)
"""What the UI asks while somebody looks at runs, experiments, an artifact and a notebook."""
AT_ONCE = 10
SETTLING_SECONDS = ReviewCacheSettings().settling_seconds
REVIEWS = "create subjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Result:
    """What one session cost."""

    mode: str
    cache: str
    requests: int
    reviews: int


async def browse(get: Callable[[str], Awaitable[int]], requests: int) -> int:
    """Ask for the session's pages in turn, each ten times at once; return how many requests that were."""
    sent = 0
    while sent < requests:
        for path in SESSION:
            statuses = await asyncio.gather(*(get(path) for _ in range(AT_ONCE)))
            if set(statuses) != {200}:
                raise AssertionError(f"{path} answered {statuses}")
            sent += AT_ONCE
    return sent


async def measure(folder: Path, mode: str, requests: int) -> list[Result]:
    """Run a cold and a warm session through Envoy in one mode."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Double.running(folder, tls=False))
        for manifest in demo_manifests():
            server.write(manifest)
        mesh = await stack.enter_async_context(DemoMesh(folder, settings=settings(server.kubeconfig())))
        clients = Clients(mesh, await stack.enter_async_context(ClientSession()))
        await ready(mesh)
        await asyncio.sleep(SETTLING_SECONDS)  # answers from that time are kept no longer
        results = []
        for cache in ("cold", "warm"):
            server.calls.clear()
            sent = await browse(lambda path: clients.status("alice", path, mode=mode), requests)
            results.append(Result(mode, cache, sent, server.calls[REVIEWS]))
        return results


async def measure_both(requests: int) -> list[Result]:
    """Measure each mode, on a mesh of its own."""
    results = []
    for mode in ("grpc", "http"):
        with tempfile.TemporaryDirectory() as folder:
            results += await measure(Path(folder), mode, requests)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = asyncio.run(measure_both(arguments.requests))
    print(f"{'mode':5} {'cache':5} {'requests':>8} {'reviews':>8} {'per 1,000':>10}")
    for result in results:
        rate = 1000 * result.reviews / result.requests
        print(f"{result.mode:5} {result.cache:5} {result.requests:8} {result.reviews:8} {rate:10.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
