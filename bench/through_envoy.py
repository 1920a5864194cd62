"""Through a real Envoy: 300 and 1,000 requests per second, open loop, and at saturation.

The server has one core; Envoy, its upstream and the load share the other one. Latencies are a user's:
they hold Envoy, the check and the upstream. Every Envoy has one worker thread.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from bench.openloop import OpenLoop
from bench.rounds import Load, Put, measure
from bench.row import Row
from bench.subjects import LOAD_CORE, Requests, Running, Subject, running
from extauthz.demo.envoy import Envoy, EnvoyConfig

RATES = (300, 1000)
FULL_CONNECTIONS = 32


def run(subjects: list[Subject], requests: Requests, folder: Path, *, seconds: float, rounds: int) -> list[Row]:
    """Return every load for every server."""
    return asyncio.run(_run(subjects, requests, folder, seconds, rounds))


async def _run(subjects: list[Subject], requests: Requests, folder: Path, seconds: float, rounds: int) -> list[Row]:
    loads = [Load(f"Envoy, {rate:,}/s", partial(_at_rate, requests, rate)) for rate in RATES]
    loads.append(Load("Envoy, saturated", partial(_saturated, requests)))
    async with AsyncExitStack() as stack:
        upstream = stack.enter_context(running((sys.executable, "-m", "bench.upstream"), core=LOAD_CORE))
        servers = {each.name: stack.enter_context(running(each.command, port=each.port)) for each in subjects}
        ports = {
            each.name: await stack.enter_async_context(_envoy(folder, each, servers[each.name], upstream.port))
            for each in subjects
        }
        # The load blocks its thread; the loop in this one only has to notice an Envoy that ends.
        return await asyncio.to_thread(measure, subjects, servers, ports, loads, seconds=seconds, rounds=rounds)


@asynccontextmanager
async def _envoy(folder: Path, subject: Subject, server: Running, upstream: int) -> AsyncIterator[int]:
    """Run an Envoy that asks this server; yield its port."""
    of_its_own = folder / f"envoy-{subject.name}"
    of_its_own.mkdir()
    config = EnvoyConfig(
        upstream_port=upstream, authz_grpc_port=server.port, authz_http_port=server.port, path_prefix=""
    )
    async with Envoy(config, of_its_own) as envoy:
        url = envoy.grpc_url if subject.protocol == "grpc" else envoy.http_url
        yield int(url.rpartition(":")[2])


@contextmanager
def _at_rate(requests: Requests, per_second: int, subject: Subject, port: int) -> Iterator[Put]:
    with _load(requests, port) as load:
        yield partial(load.run, per_second)


@contextmanager
def _saturated(requests: Requests, subject: Subject, port: int) -> Iterator[Put]:
    with _load(requests, port) as load:
        yield partial(load.saturate, FULL_CONNECTIONS)


@contextmanager
def _load(requests: Requests, port: int) -> Iterator[OpenLoop]:
    load = OpenLoop(port, requests.http)
    try:
        yield load
    finally:
        load.close()
