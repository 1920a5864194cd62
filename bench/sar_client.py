"""CPU that one SubjectAccessReview costs the client: raw JSON against kubernetes.aio's generated models.

`python bench/sar_client.py` starts the test API server as its own process and asks it over
TLS. What counts is this process' CPU time, so the server's speed does not matter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from extauthz.access.kubernetes import wire
from extauthz.access.kubernetes.connection import Connection
from extauthz.access.kubernetes.reviews import KubernetesAuthorizer
from extauthz.review import ResourceAttributes
from extauthz.settings import KubernetesAuthorizer as Limits
from extauthz.subject import Subject

SUBJECT = Subject.authenticated("alice@example.com", ("team-a", "team-b"))
ATTRIBUTES = ResourceAttributes("list", "pipelines.kubeflow.org", "v1beta1", "runs", namespace="team-a")
Ask = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Result:
    """What one client needed; times in microseconds."""

    client: str
    callers: int
    cpu_us: float
    per_second: float


async def measure(name: str, ask: Ask, callers: int, reviews: int) -> Result:
    """Ask `reviews` times with `callers` at once, after a tenth as many to warm up."""
    await _ask_many(ask, callers, reviews // 10)
    cpu, wall = time.process_time(), time.perf_counter()
    await _ask_many(ask, callers, reviews)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Result(name, callers, cpu / reviews * 1e6, reviews / wall)


async def _ask_many(ask: Ask, callers: int, reviews: int) -> None:
    left = iter(range(reviews))

    async def caller() -> None:
        for _ in left:
            await ask()

    await asyncio.gather(*(caller() for _ in range(callers)))


async def compare(kubeconfig: Path, callers: int, reviews: int) -> list[Result]:
    """Measure each client against the same server, one after the other."""
    from kubernetes.aio import client, config

    await config.load_kube_config(config_file=str(kubeconfig))
    body = wire.question(SUBJECT, ATTRIBUTES)
    async with client.ApiClient() as api, await Connection.open(kubeconfig=kubeconfig) as connection:
        generated = client.AuthorizationV1Api(api)
        authorizer = KubernetesAuthorizer(connection, Limits(timeout_seconds=30, max_reviews_per_user=32))

        async def by_models() -> None:
            attributes = client.V1ResourceAttributes(
                verb="list", group="pipelines.kubeflow.org", version="v1beta1", resource="runs", namespace="team-a"
            )
            spec = client.V1SubjectAccessReviewSpec(
                user=SUBJECT.user, groups=list(SUBJECT.groups), resource_attributes=attributes
            )
            await generated.create_subject_access_review(client.V1SubjectAccessReview(spec=spec))

        async def by_raw_json() -> None:
            await connection.request("POST", wire.PATH, body=body, timeout=30)

        async def by_authorizer() -> None:
            await authorizer.review(SUBJECT, ATTRIBUTES)

        return [
            await measure("kubernetes.aio, generated models", by_models, callers, reviews),
            await measure("Connection.request, raw JSON", by_raw_json, callers, reviews),
            await measure("KubernetesAuthorizer.review", by_authorizer, callers, reviews),
        ]


def show(results: list[Result]) -> None:
    """Print a table; the ratio is to the generated models."""
    print(f"{'client':34} {'callers':>7} {'CPU µs/review':>14} {'ratio':>6} {'reviews/s':>10}")
    base = results[0].cpu_us
    for result in results:
        ratio = result.cpu_us / base
        print(f"{result.client:34} {result.callers:7} {result.cpu_us:14.0f} {ratio:6.2f} {result.per_second:10.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, default=3000)
    parser.add_argument("--callers", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.apiserver", "--folder", folder, "--tls"]
        root = Path(__file__).resolve().parent.parent
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as server:
            assert server.stdout
            try:
                ready = json.loads(server.stdout.readline())
                show(uvloop.run(compare(Path(ready["kubeconfig"]), arguments.callers, arguments.reviews)))
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
