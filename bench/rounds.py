"""Measuring several servers in turn, round after round, so that what else the machine does hits all alike.

A figure is the median of its rounds. A ratio is the median of the rounds' ratios: each round's server
beside the no-op of the same round.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bench.openloop import Lost, Outcome, median
from bench.row import Row
from bench.subjects import Running, Subject

WARM_UP_SECONDS = 0.5
TRIES = 3

Put = Callable[[float], Outcome]
"""Loads a server for so many seconds."""


@dataclass(frozen=True)
class Load:
    """A way to load a server: `connect` opens the connections to a port, and closes them in the end."""

    name: str
    connect: Callable[[Subject, int], AbstractContextManager[Put]]


@dataclass(frozen=True)
class Sample:
    """One round of one server."""

    cpu_us: float
    per_second: float
    outcome: Outcome
    resident_mb: float


def measure(
    subjects: Sequence[Subject],
    servers: Mapping[str, Running],
    ports: Mapping[str, int],
    loads: Sequence[Load],
    *,
    seconds: float,
    rounds: int,
) -> list[Row]:
    """Return a row for each load and server; `ports` says where each server is reached."""
    samples: dict[tuple[str, str], list[Sample]] = {(load.name, each.name): [] for load in loads for each in subjects}
    for _ in range(rounds):
        for load in loads:
            for subject in subjects:
                sample = _sample_again(load, subject, servers[subject.name], ports[subject.name], seconds)
                samples[load.name, subject.name].append(sample)
    by_name = {subject.name: subject for subject in subjects}
    return [
        _row(load, by_name[name], found, samples.get((load, by_name[name].yardstick), []))
        for (load, name), found in samples.items()
    ]


def _sample_again(load: Load, subject: Subject, server: Running, port: int, seconds: float) -> Sample:
    """Measure one round; what was lost on a busy machine is measured again, and said."""
    for _ in range(TRIES):
        try:
            with load.connect(subject, port) as put:
                return _sample(server, put, seconds)
        except Lost as error:
            print(f"{load.name}, {subject.name}: {error}; measured again", file=sys.stderr)
    raise SystemExit(f"{load.name}, {subject.name} cannot be measured")


def _sample(server: Running, put: Put, seconds: float) -> Sample:
    put(WARM_UP_SECONDS)
    before = server.cpu_seconds()
    outcome = put(seconds)
    used = server.cpu_seconds() - before
    answered = max(1, len(outcome.latencies))
    return Sample(used / answered * 1e6, answered / outcome.elapsed, outcome, server.resident_mb())


def _row(load: str, subject: Subject, found: list[Sample], yardstick: list[Sample]) -> Row:
    cpu = median([sample.cpu_us for sample in found])
    beside = list(zip(found, yardstick, strict=False))
    more = {"protocol": subject.protocol, "answeredPerSecond": round(median([s.per_second for s in found]))}
    p99s = [(one.outcome.microseconds(0.99), other.outcome.microseconds(0.99)) for one, other in beside]
    return Row(
        scenario=load,
        server=subject.name,
        cpu_us=cpu,
        p50_us=median([sample.outcome.microseconds(0.5) for sample in found]),
        p99_us=median([sample.outcome.microseconds(0.99) for sample in found]),
        p999_us=median([sample.outcome.microseconds(0.999) for sample in found]),
        per_core=1e6 / cpu if cpu else None,
        rss_mb=max(sample.resident_mb for sample in found),
        ratio=median([one.cpu_us / other.cpu_us for one, other in beside if other.cpu_us]) if beside else None,
        p99_ratio=median([mine / theirs for mine, theirs in p99s if theirs]) if beside else None,
        errors=sum(sample.outcome.wrong for sample in found),
        more={**more, "note": subject.note} if subject.note else more,
    )
