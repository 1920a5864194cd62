"""What a run has shown, as a table to keep in the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

MARK = "<!-- what follows is written by the run -->"


def write_markdown(file: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table behind the mark in a file, in place of the one of the last run."""
    above = file.read_text().partition(MARK)[0]
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
    file.write_text("\n".join([f"{above}{MARK}", "", *lines, ""]))
