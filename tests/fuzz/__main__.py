"""Long runs, guided by coverage: `python -m tests.fuzz [--seconds N] [TARGET…]`.

Each target runs in a process of its own for N seconds. An input that fails is kept in the
corpus, where `make test` meets it from then on; exits 1 then.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.fuzz.targets import CORPUS, TARGETS


def main() -> int:
    """Run the targets one after the other; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long each target runs (default: 60)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    failed = [name for name in options.targets or TARGETS if not _run(name, options.seconds)]
    print(f"fuzz: {', '.join(failed)} failed; the inputs are in {CORPUS}" if failed else "fuzz: nothing failed")
    return 1 if failed else 0


def _run(name: str, seconds: int) -> bool:
    """Run one target in a process of its own; tell whether it held."""
    print(f"fuzz: {name} for {seconds} s", flush=True)
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.guided", name, str(seconds)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if line.startswith(("Done", "ERROR", "==", "Traceback"))]
    print("\n".join(told[-3:]) if done.returncode == 0 else done.stderr[-4000:], flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
