"""How many mutants the tests notice: `python -m tests.mutation`, after `mutmut run`; fails below 85 %."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

LIMIT_PERCENT = 85
MUTANTS = Path("mutants/extauthz")
COLUMNS = ("module", "mutants", "killed", "timeouts", "survived", "no tests", "odd", "score")
UNTRIED = "not tried"

# Those of pytest and mutmut. What is odd (a crash, an error of pytest) counts as not noticed, and so does 255, which
# mutmut calls a timeout: it is what is left of an error of pytest, such as a test whose name differs in this process.
OUTCOMES: dict[int | None, str] = {None: UNTRIED, 0: "survived", 1: "killed", 5: "no tests", 33: "no tests"}
OUTCOMES |= dict.fromkeys((36, 24, -24, 152), "timeouts")


def main() -> int:
    """Print a Markdown table; a timeout counts as noticed, a mutant that no test reaches as missed."""
    found: dict[str, Counter[str]] = {}
    for path in sorted(MUTANTS.rglob("*.py.meta")):
        place = path.relative_to(MUTANTS)
        name = place.name.removesuffix(".py.meta") if place.parent == Path() else f"{place.parent.as_posix()}/"
        codes = json.loads(path.read_text())["exit_code_by_key"].values()
        found.setdefault(name, Counter()).update(OUTCOMES.get(code, "odd") for code in codes)
    print("", *COLUMNS, "", sep=" | ")
    print("", *("---" for _ in COLUMNS), "", sep=" | ")
    for name, counts in found.items():
        _print_row(name, counts)
    total = sum(found.values(), Counter[str]())
    _print_row("all", total)
    return int(_score(total) < LIMIT_PERCENT)


def _print_row(name: str, counts: Counter[str]) -> None:
    tried = counts.total() - counts[UNTRIED]
    if tried:
        middle = (counts[column] for column in COLUMNS[2:-1])
        print("", name, tried, *middle, f"{_score(counts):.1f} %", "", sep=" | ")


def _score(counts: Counter[str]) -> float:
    return 100 * (counts["killed"] + counts["timeouts"]) / max(1, counts.total() - counts[UNTRIED])


if __name__ == "__main__":
    sys.exit(main())
