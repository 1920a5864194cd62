"""A run as a table, as JSON, and as gates that hold or do not.

    python -m bench.report bench|peers

writes the README's part anew from `results/NAME.json`, such as that of a run that was cut off.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.gates import Rows, gates_of
from bench.row import Gate, Row

RESULTS = Path(__file__).parent / "results"
BUSY_CORES = 0.5
"""With so much other work, latencies are its own. Interrupts alone came to 0.4 where nothing else ran."""

COLUMNS = ("scenario", "server", "CPU µs", "ratio", "p50 µs", "p99 µs", "p99.9 µs", "checks/s per core", "RSS MB", "")


def show(console: Console, rows: Sequence[Row], gates: Sequence[Gate]) -> None:
    """Print everything."""
    table = Table(box=None)
    for name in COLUMNS[:2]:
        table.add_column(name, no_wrap=True)
    for name in COLUMNS[2:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)
    for gate in gates:
        value = "not measured" if gate.value is None else f"{gate.value:.2f}"
        style = "green" if gate.ok else "bold red"
        word = "ok  " if gate.ok else "FAIL"
        console.print(
            f"{word} {gate.name}: {value} (limit {gate.limit:g}){' -- ' + gate.note if gate.note else ''}", style=style
        )


def cells(row: Row) -> list[str]:
    """Return a row as text."""
    untold = ("protocol", "answeredPerSecond", "note")
    more = " ".join(f"{name}={value}" for name, value in row.more.items() if name not in untold)
    errors = f"{row.errors} errors" if row.errors else ""
    return [
        row.scenario,
        row.server,
        _number(row.cpu_us, 1),
        _number(row.ratio, 2),
        *(_number(value, 0) for value in (row.p50_us, row.p99_us, row.p999_us, row.per_core, row.rss_mb)),
        ", ".join(filter(None, (errors, row.more.get("note", ""), more))),
    ]


def markdown(rows: Sequence[Row], gates: Sequence[Gate], about: Mapping[str, Any]) -> str:
    """Return how it was measured, the table and the gates for a README."""
    lines = [*_told(about), "", "| " + " | ".join(COLUMNS) + " |", "|---|---|" + "---:|" * 7 + "---|"]
    lines += ("| " + " | ".join(cells(row)) + " |" for row in rows)
    lines += ["", "| gate | value | limit | |", "|---|---:|---:|---|"]
    for gate in gates:
        value = "not measured" if gate.value is None else f"{gate.value:.2f}"
        note = f" ({gate.note})" if gate.note else ""
        lines.append(f"| {gate.name}{note} | {value} | {gate.limit:g} | {'ok' if gate.ok else '**missed**'} |")
    return "\n".join(lines) + "\n"


def _told(about: Mapping[str, Any]) -> list[str]:
    """Return sentences on the machine and the run."""
    seconds: Mapping[str, float] = about["seconds"]
    parts = ", ".join(f"{name} {each:.0f}" for name, each in seconds.items())
    told = (
        f"{about['day']}: Python {about['python']} on {about['system']}, {about['machine']}, {about['cores']} cores."
        f" Rounds: {about['rounds']}, of {about['secondsEach']:g} s. It took {sum(seconds.values()):.0f} s ({parts})."
    )
    if about["missing"]:
        told += f" **Cut off**: {', '.join(about['missing'])} not measured."
    others = about["othersCores"]
    if others is not None:
        told += f" Other work, interrupts among it, had {others:.2f} cores."
    if others is not None and others > BUSY_CORES:
        told += " **That is a busy machine**: latencies are those of the other work, and say nothing of any server."
    lines = textwrap.wrap(told, 120)
    versions: Mapping[str, str] = about.get("versions", {})
    if versions:
        lines += ["", *(f"- {name}: {version}" for name, version in versions.items())]
    return lines


def save(folder: Path, name: str, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Write `NAME.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"about": about, "rows": [row.to_json() for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def publish(folder: Path, name: str, rows: Sequence[Row], gates: Sequence[Gate], about: Mapping[str, Any]) -> None:
    """Write the part of the README beside the folder, and the gates; those of other runs stay in the summary."""
    splice(folder.parent / "README.md", name, f"\n{markdown(rows, gates, about)}\n")
    summary = folder / "summary.json"
    before = json.loads(summary.read_text())["gates"] if summary.exists() else []
    mine = [{**gate.to_json(), "run": name} for gate in gates]
    others = [gate for gate in before if gate["run"] != name]
    summary.write_text(json.dumps({"gates": sorted(mine + others, key=lambda gate: gate["run"])}, indent=1) + "\n")


def splice(readme: Path, name: str, content: str) -> None:
    """Put a text between the marks `<!-- NAME -->` and `<!-- /NAME -->` of a file."""
    before, start, rest = readme.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not start or not end:
        raise ValueError(f"{readme} has no marks for {name}")
    readme.write_text(f"{before}{start}{content}{end}{after}")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def main() -> None:
    """Write the README's part of a run that was saved."""
    name = sys.argv[1]
    content = json.loads((RESULTS / f"{name}.json").read_text())
    rows = [Row(**row) for row in content["rows"]]
    publish(RESULTS, name, rows, gates_of(name, Rows(rows)), content["about"])


if __name__ == "__main__":
    main()
