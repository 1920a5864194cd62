"""All benches: `make bench`, or `python -m bench [--peers] [--only WORD] [--rounds 3] [--seconds 2]`.

Prints a table and the gates, writes `bench/results/*.json` and the README's table, and draws `*.svg` where matplotlib
is there. The JSON is written after each section, so that a run that is cut off keeps what it has. Exit code 1 when a
gate does not hold. Servers stay on 127.0.0.1; all loads are bounded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import cold_start, edges, peers, report, through_envoy
from bench.gates import Rows, gates_of
from bench.report import RESULTS
from bench.row import Row, Sections
from bench.run import run
from bench.steps import ALONE, VERIFY
from bench.subjects import LOAD_CORE, ROOT, SERVER_CORE, Subject, pin, prepare, subjects

RULES = (10, 300, 3_000)
REVIEWS = (1_000, 100_000, 1_000_000)
NAMESPACES = (20, 200, 2_000, 10_000)
BINDINGS = 5
"""Per namespace."""


def main() -> int:
    """Return the exit code."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 170)
    name = "peers" if arguments.peers else "bench"
    about = {"day": datetime.now(UTC).date().isoformat(), "rounds": arguments.rounds, "secondsEach": arguments.seconds}
    with _peers(console, arguments) if arguments.peers else nullcontext(_sections(arguments)) as sections:
        wanted = {section: measure for section, measure in sections.items() if arguments.only in section}
        more = {"versions": peers.versions()} if arguments.peers else {}
        rows, told = run(
            console, wanted, {**about, **more}, _nowhere if arguments.only else partial(report.save, RESULTS, name)
        )
    found = gates_of(name, Rows(rows))
    report.show(console, rows, found)
    if not arguments.only:
        report.publish(RESULTS, name, rows, found, told)
        _draw(console, name, rows)
    console.print(f"{sum(told['seconds'].values()):.0f} s; other work had {told['othersCores']} cores")
    return 0 if all(gate.ok for gate in found) else 1


def _nowhere(rows: list[Row], about: Mapping[str, Any]) -> None:
    """Write nothing: a part is no run."""


def _peers(console: Console, arguments: argparse.Namespace) -> AbstractContextManager[Sections]:
    for name, version in peers.versions().items():
        console.print(f"{name}: {version}")
    return peers.sections(seconds=arguments.seconds, rounds=arguments.rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="measure other servers beside ours")
    parser.add_argument("--only", default="", metavar="WORD", help="run what has this in its name; writes nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each server is loaded in each round")
    parser.add_argument("--all-servers", action="store_true", help="also measure grpcio and aiohttp")
    return parser.parse_args()


def _sections(arguments: argparse.Namespace) -> Sections:
    return {
        "decision": _decision_alone,
        "in process": _in_process,
        "edges": lambda: _edges(arguments),
        "envoy": lambda: _through_envoy(arguments),
        "policy": _policies,
        "cache": _caches,
        "rbac": _rbac,
        "cold start": lambda: cold_start.run(rounds=arguments.rounds),
        "economy": _economy,
        "revocation": _revocation,
        "memory": _memory,
    }


def _edges(arguments: argparse.Namespace) -> list[Row]:
    def run(found: list[Subject], folder: Path) -> list[Row]:
        return edges.run(found, prepare(folder), seconds=arguments.seconds, rounds=arguments.rounds)

    return _with_subjects(arguments, run)


def _through_envoy(arguments: argparse.Namespace) -> list[Row]:
    def run(found: list[Subject], folder: Path) -> list[Row]:
        requests = prepare(folder).requests
        return through_envoy.run(found, requests, folder, seconds=2 * arguments.seconds, rounds=arguments.rounds)

    return _with_subjects(arguments, run)


def _with_subjects(arguments: argparse.Namespace, run: Callable[[list[Subject], Path], list[Row]]) -> list[Row]:
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as name:
        found = subjects(Path(name), everything=arguments.all_servers)
        pin(LOAD_CORE)
        try:
            return run(found, Path(name))
        finally:
            os.sched_setaffinity(0, cores)


def _decision_alone() -> list[Row]:
    told = _written("bench.steps")
    cpu = {("decision alone", edge): told[step] for edge, step in ALONE.items()}
    cpu["token verified", "PyJWT, RS256"] = told[VERIFY]
    return [Row(*name, cpu_us=each, per_core=1e6 / each) for name, each in cpu.items()]


def _in_process() -> list[Row]:
    return [
        _row("in process", f"native-{protocol}", _told("bench.in_process", "edge", protocol))
        for protocol in ("grpc", "http")
    ]


def _policies() -> list[Row]:
    return [
        _row(f"policy, {rules:,} rules", "native-http", _told("bench.in_process", "policy", str(rules)), "rules", rules)
        for rules in RULES
    ]


def _caches() -> list[Row]:
    return [
        _row(f"cache, {kept:,} reviews", "native-http", _told("bench.in_process", "cache", str(kept)), "reviews", kept)
        for kept in REVIEWS
    ]


def _row(scenario: str, server: str, told: dict[str, float], of: str = "", size: int = 0) -> Row:
    cpu = told["cpu_us"]
    more = {"of": of, "size": size} if of else {}
    return Row(scenario, server, cpu_us=cpu, per_core=1e6 / cpu, rss_mb=told["rss_mb"], more=more)


def _rbac() -> list[Row]:
    rows = []
    for namespaces in NAMESPACES:
        told = _written("bench.rbac", "--namespaces", str(namespaces), "--bindings", str(BINDINGS))
        bindings = namespaces * BINDINGS
        cpu = told["microsecondsPerReview"]["allow, by user"]
        more = {"of": "bindings", "size": bindings, "loadSeconds": told["loadSeconds"]}
        rows.append(
            Row(
                f"RBAC, {bindings:,} bindings",
                "evaluator",
                cpu,
                per_core=1e6 / cpu,
                rss_mb=told["maxResidentMB"],
                more=more,
            )
        )
    return rows


def _economy() -> list[Row]:
    return [
        Row("SAR economy", f"extauthz, {each['mode']}, {each['cache']}", more={"per1000": _per_thousand(each)})
        for each in _written("bench.sar_economy")
    ]


def _per_thousand(result: dict[str, Any]) -> float:
    return float(round(1000 * result["reviews"] / result["requests"], 1))


def _revocation() -> list[Row]:
    told = _written("bench.revocation", "--iterations", "10")["milliseconds"].values()
    delays = sorted(1000 * delay for mode in told for delay in mode["from_acknowledged"])
    late = sum(mode["allowed_after_settling"] for mode in told)
    middle = delays[len(delays) // 2]
    return [Row("revocation", "extauthz", p50_us=middle, p99_us=delays[-1], more={"allowedLate": late, "deletes": 10})]


def _memory() -> list[Row]:
    told = _written("bench.memory")
    more = {name: told[name] for name in ("tokens", "reviews")}
    return [
        Row("memory, at start", "extauthz", rss_mb=told["at_start"] / 1e6),
        Row("memory, full", "extauthz", rss_mb=told["with_reviews"] / 1e6, more=more),
    ]


def _told(*module: str) -> dict[str, float]:
    """Run a module on the servers' core; return what it prints as JSON."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", *module]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def _written(*module: str) -> Any:
    """Run a module; return what it writes as JSON."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command: Sequence[str] = [sys.executable, "-m", *module, "--json", file.name]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        return json.loads(Path(file.name).read_text())


def _draw(console: Console, name: str, rows: Sequence[Row]) -> None:
    try:
        from bench import draw
    except ImportError:
        console.print("matplotlib is missing: no pictures are drawn. pip install 'extauthz[bench]'")
        return
    draw.draw(RESULTS, name, rows)


if __name__ == "__main__":
    sys.exit(main())
