"""How a run ends: by itself or when it is told to, with its table in the documentation."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

Result = TypeVar("Result")

MARK = "<!-- what follows is written by the run -->"


async def until_told(work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work; SIGTERM breaks it off in the way of Ctrl-C, so that no process of its own is left behind."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def show(title: str, columns: Sequence[str], rows: Sequence[tuple[Sequence[str], bool]], markdown: Path | None) -> None:
    """Print a table, rows that do not hold in red, and write it into a file where one is named."""
    table = Table(*columns, title=title)
    for cells, holds in rows:
        table.add_row(*cells, style="" if holds else "red")
    Console(width=140).print(table)
    if markdown:
        write_markdown(markdown, columns, [cells for cells, _ in rows])


def write_markdown(file: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table behind the mark in a file, in place of the one of the last run."""
    above = file.read_text().partition(MARK)[0]
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
    file.write_text("\n".join([f"{above}{MARK}", "", *lines, ""]))
