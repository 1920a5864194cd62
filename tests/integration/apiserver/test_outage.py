"""An API server that is killed under load and comes back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from asyncio.subprocess import Process
from collections import Counter
from pathlib import Path

from extauthz.access.kubernetes.connection import Connection
from extauthz.access.kubernetes.reviews import KubernetesAuthorizer
from extauthz.errors import Unavailable
from extauthz.review import ResourceAttributes, Review
from extauthz.settings import KubernetesAuthorizer as Limits
from extauthz.subject import Subject

PODS = ResourceAttributes("get", resource="pods")


async def start(folder: Path, port: int) -> tuple[Process, Path, int]:
    """Start the test API server as its own process; return it, its kubeconfig and its port."""
    command = (sys.executable, "-m", "tests.apiserver", "--folder", str(folder), "--port", str(port))
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout
    ready = json.loads(await process.stdout.readline())
    return process, Path(ready["kubeconfig"]), int(ready["url"].rpartition(":")[2])


async def end(process: Process) -> None:
    """Kill a process as the kernel does."""
    process.kill()
    await process.communicate()


async def test_killed_and_started_again(tmp_path: Path) -> None:
    """Under load a killed server costs refusals and never an allow; once it is back, reviews work without a restart."""
    process, kubeconfig, port = await start(tmp_path, 0)
    now = [0.0]
    async with await Connection.open(kubeconfig=kubeconfig) as connection:
        limits = Limits(timeout_seconds=5, max_concurrent_reviews=16, max_queued_reviews=400, max_reviews_per_user=15)
        authorizer = KubernetesAuthorizer(connection, limits, clock=lambda: now[0])
        outcomes: Counter[str] = Counter()
        first = asyncio.Event()

        async def ask(number: int) -> None:
            try:
                review: Review = await authorizer.review(Subject.authenticated(f"user-{number}"), PODS)
                outcomes["allowed" if review.allowed else "denied"] += 1
                first.set()
            except Unavailable as error:
                outcomes[error.reason] += 1

        load = [asyncio.ensure_future(ask(number)) for number in range(400)]
        await first.wait()
        await end(process)
        await asyncio.gather(*load)
        assert outcomes.keys() <= {"denied", "authorizer_unavailable"}
        assert outcomes.total() == 400
        assert outcomes["authorizer_unavailable"]
        assert (authorizer.limiter.running, authorizer.limiter.waiting) == (0, 0)

        process, _, _ = await start(tmp_path, port)
        try:
            now[0] += 1
            assert not (await authorizer.review(Subject.authenticated("user"), PODS)).allowed
            assert authorizer.problems() == []
        finally:
            await end(process)
