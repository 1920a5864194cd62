"""Long runs, guided by coverage: `python -m tests.fuzz [--seconds N] [--markdown FILE] [TARGET…]`.

Each target runs in a process of its own for N seconds. An input that fails is kept in the
corpus, where `make test` meets it from then on; exits 1 then.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.running import show
from tests.fuzz.targets import CORPUS, TARGETS

COLUMNS = ("target", "seconds", "inputs", "inputs a second", "edges", "features", "corpus", "crashes")

_REACHED = re.compile(r"^#\d+\t.* cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
"""libFuzzer's progress. It is missing where the kept corpus fails."""
_STATISTIC = re.compile(r"^stat::(\w+): +(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """What one target went through. `corpus` is how many inputs were kept because they reached something new."""

    target: str
    seconds: int
    inputs: int
    pace: int
    edges: int
    features: int
    corpus: int
    held: bool

    def cells(self) -> list[str]:
        """Return the row as text."""
        counts = (self.seconds, self.inputs, self.pace, self.edges, self.features, self.corpus, int(not self.held))
        return [self.target, *map(str, counts)]


def main() -> int:
    """Run the targets one after the other; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long each target runs (default: 60)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to a file, too")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    rows = [_run(name, options.seconds) for name in options.targets or TARGETS]
    show("Fuzzing", COLUMNS, [(row.cells(), row.held) for row in rows], options.markdown)
    failed = [row.target for row in rows if not row.held]
    print(f"fuzz: {', '.join(failed)} failed; the inputs are in {CORPUS}" if failed else "fuzz: nothing failed")
    return 1 if failed else 0


def _run(name: str, seconds: int) -> Row:
    """Run one target in a process of its own; tell why it failed, if it did."""
    print(f"fuzz: {name} for {seconds} s", file=sys.stderr, flush=True)
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.guided", name, str(seconds)]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(
            command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace", check=False
        )
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr, flush=True)
    told = dict(_STATISTIC.findall(done.stderr))
    inputs, pace = (int(told.get(each, 0)) for each in ("number_of_executed_units", "average_exec_per_sec"))
    edges, features, corpus = map(int, [("0", "0", "0"), *_REACHED.findall(done.stderr)][-1])
    return Row(name, seconds, inputs, pace, edges, features, corpus, held=done.returncode == 0)


if __name__ == "__main__":
    sys.exit(main())
