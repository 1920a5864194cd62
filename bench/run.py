"""A run, section by section; what one that is cut off has measured so far is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from bench.machine import Machine
from bench.row import Row, Sections

Keep = Callable[[list[Row], Mapping[str, Any]], None]
"""Writes down all rows so far, and what is told about the run."""


def run(console: Console, sections: Sections, about: Mapping[str, Any], keep: Keep) -> tuple[list[Row], dict[str, Any]]:
    """Measure everything; return the rows and what is told: seconds of each section, and what is missing so far."""
    machine, rows, seconds = Machine(), list[Row](), dict[str, float]()
    told = {**about, "seconds": seconds, "missing": list(sections), **machine.about()}
    for name, section in sections.items():
        console.print(f"{name} ...", style="dim")
        began = time.monotonic()
        rows += section()
        seconds[name] = round(time.monotonic() - began, 1)
        console.print(f"{name}: {seconds[name]} s", style="dim")
        told |= {"missing": [each for each in sections if each not in seconds], **machine.about()}
        keep(rows, told)
    return rows, told
