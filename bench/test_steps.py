"""The steps of a cached check, each as a ratio to a step that is not ours: `make steps`.

The yardstick is the parse of the CheckRequest by protobuf's own C code. A step whose fastest
round takes more than its limit of that fails, so that a regression shows on any machine. The
limits are twice what was measured (`bench/README.md`).
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2

from bench.edge_server import cached, with_edge
from bench.subjects import prepare
from bench.transport import Source
from extauthz import settings
from extauthz.edge import check
from extauthz.edge.http_service import Checks
from extauthz.edge.native.grpc import GrpcApplication
from extauthz.edge.native.health import Health
from extauthz.edge.native.http import Http1Application
from extauthz.edge.native.requests import Http1Limits, Incoming, RequestReader
from extauthz.edge.reply import PLAIN
from extauthz.service import Service

LIMIT = 65536
ID = b"6f3c1f0e-9f9c-4e0f-8a2a-1b1f0c6d7e8f"
UNTOLD = b"%036d" % 1
"""The request id in the prepared requests, and another."""

Step = Callable[[], object]


@pytest.fixture(scope="module")
def steps() -> Iterator[dict[str, Step]]:
    """Every step, ready to run."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        yield runner.run(_prepared(Path(name)))


async def _prepared(folder: Path) -> dict[str, Step]:
    prepared = prepare(folder).requests
    # This id is not one of those whose decisions are told to the audit log, which takes 0.4 ms each.
    requests = replace(prepared, grpc=prepared.grpc.replace(ID, UNTOLD), http=prepared.http.replace(ID, UNTOLD))
    source = Source()
    loaded = with_edge("native-http", settings.load(folder / "settings.yaml"))
    service = Service(loaded, listening={"http": source})
    await service.start()
    service.gateway.authorizer = cached(service.authority)
    while service.blockers():  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.01)
    grpc = GrpcApplication(service.gateway, Health(("",)), PLAIN, max_body_bytes=LIMIT)
    http = Http1Application(service.gateway, PLAIN, Checks("", LIMIT), LIMIT)
    reader = RequestReader(Http1Limits(), LIMIT)

    def parsed() -> Incoming:
        reader.feed(requests.http)
        asked = reader.ready.popleft()
        assert asked is not None
        return asked

    for ask in (lambda: grpc._checks.answer(check.decoded(requests.grpc)), lambda: http.answer(parsed())):
        for _ in range(3):
            answer: Any = ask()
            if asyncio.iscoroutine(answer) or asyncio.isfuture(answer):
                await answer
    asked = check.decoded(requests.grpc)
    key = grpc._checks._keys.of(asked)
    assert key is not None
    assert grpc._checks.recall(key, "", lambda: check.judged(asked, max_body_bytes=LIMIT))
    assert http.recall(requests.http)
    heads = itertools.cycle([requests.http.replace(UNTOLD, b"%036d" % number) for number in range(500)])
    wire = source.connect()
    wire.feed(requests.http)
    return {
        "protobuf: parse": lambda: external_auth_pb2.CheckRequest.FromString(requests.grpc),
        "grpc: message to Asked": lambda: check.decoded(requests.grpc),
        "grpc: key": lambda: grpc._checks._keys.of(asked),
        "recall: memory, grounds, counts, audit": lambda: grpc._checks.recall(key, "x", _never),
        "grpc: message to answer": lambda: grpc._checks.answer(check.decoded(requests.grpc)),
        "grpc: message to answer, decided anew": lambda: grpc._checks.decide(check.decoded(requests.grpc)),
        "http: key": lambda: http._keys.of_head(next(heads)),
        "http: bytes to answer": lambda: http.recall(next(heads)),
        "http: read to write": lambda: wire.feed(next(heads)),
        "http: parse by httptools": parsed,
        "http: bytes to answer, decided anew": lambda: http.answer(parsed()),
    }


def _never() -> Any:
    raise AssertionError("nobody wants to read the request")


LIMITS = {
    "grpc: message to Asked": 4.0,
    "grpc: key": 3.0,
    "recall: memory, grounds, counts, audit": 2.0,
    "grpc: message to answer": 10.0,
    "grpc: message to answer, decided anew": 60.0,
    "http: key": 7.0,
    "http: bytes to answer": 11.0,
    "http: read to write": 12.0,
    "http: parse by httptools": 14.0,
    "http: bytes to answer, decided anew": 100.0,
}
"""Times the yardstick."""


@pytest.mark.benchmark(timer=time.process_time)  # not the clock on the wall, which others share
@pytest.mark.parametrize("name", LIMITS)
def test_step(name: str, steps: dict[str, Step], benchmark: Any) -> None:
    """The step takes no more of the yardstick's time than its limit."""
    benchmark.pedantic(steps[name], rounds=100, iterations=100, warmup_rounds=3)
    ratio = benchmark.stats.stats.min / fastest(steps["protobuf: parse"])
    benchmark.extra_info["ratio"] = round(ratio, 2)
    print(f"\n{name}: {ratio:.2f} of the yardstick, {benchmark.stats.stats.min * 1e6:.1f} µs")
    assert ratio <= LIMITS[name]


def fastest(step: Step, rounds: int = 100, iterations: int = 100) -> float:
    """Return the seconds of a step in its fastest round."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(iterations):
            step()
        times.append(time.process_time() - began)
    return min(times) / iterations
