"""A run as a table, as JSON, and as gates that hold or do not."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.row import Gate, Row

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
    more = " ".join(
        f"{name}={value}" for name, value in row.more.items() if name not in ("protocol", "answeredPerSecond")
    )
    errors = f"{row.errors} errors" if row.errors else ""
    return [
        row.scenario,
        row.server,
        _number(row.cpu_us, 1),
        _number(row.ratio, 2),
        *(_number(value, 0) for value in (row.p50_us, row.p99_us, row.p999_us, row.per_core, row.rss_mb)),
        " ".join(filter(None, (errors, more))),
    ]


def markdown(rows: Sequence[Row], gates: Sequence[Gate]) -> str:
    """Return the table and the gates for a README."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "---:|" * 7 + "---|"]
    lines += ("| " + " | ".join(cells(row)) + " |" for row in rows)
    lines += ["", "| gate | value | limit | |", "|---|---:|---:|---|"]
    for gate in gates:
        value = "not measured" if gate.value is None else f"{gate.value:.2f}"
        lines.append(f"| {gate.name} | {value} | {gate.limit:g} | {'ok' if gate.ok else '**missed**'} |")
    return "\n".join(lines) + "\n"


def write(folder: Path, name: str, rows: Sequence[Row], gates: Sequence[Gate], about: Mapping[str, object]) -> None:
    """Write `NAME.json`, the table in the README beside it, and the gates; those of other runs stay in the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    content = {"about": {**machine, **about}, "rows": [row.to_json() for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    splice(folder.parent / "README.md", name, f"\n{markdown(rows, gates)}\n")
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
