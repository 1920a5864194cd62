"""The steps of a cached check, each as a ratio to a step that is not ours: `make steps`.

The yardstick is the parse of the CheckRequest by protobuf's own C code. A step whose fastest
round takes more than its limit of that fails, so that a regression shows on any machine. The
limits are twice what was measured (`bench/README.md`).
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.steps import Step, fastest, prepared


@pytest.fixture(scope="module")
def steps() -> Iterator[dict[str, Step]]:
    """Every step, ready to run."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        yield runner.run(prepared(Path(name)))


LIMITS = {
    "grpc: message to Asked": 4.0,
    "grpc: key": 3.0,
    "recall: memory, grounds, counts, audit": 2.0,
    "grpc: message to answer": 10.0,
    "grpc: message to answer, decided anew": 60.0,
    "http: key": 2.0,
    "http: bytes to answer": 5.0,
    "http: read to write": 6.0,
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
