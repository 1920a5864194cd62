"""A run as pictures: `bench/results/*.svg`, which the README shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.figure import Figure

from bench.row import Row

OURS, THEIRS = "#2563eb", "#9ca3af"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "extauthz",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(folder: Path, name: str, rows: Sequence[Row]) -> None:
    """Draw CPU and latencies of all servers, and what grows with what, as far as it was measured."""
    mpl.use("svg")
    with mpl.rc_context(STYLE):
        costs = [row for row in rows if row.scenario in ("edge, saturated", "Envoy, 300/s") and row.cpu_us]
        if costs:
            _costs(folder / f"{name}-cpu.svg", costs)
        through = [row for row in rows if row.scenario.startswith("Envoy") and row.p99_us and "/s" in row.scenario]
        if through:
            _latencies(folder / f"{name}-latency.svg", through)
        growth = [row for row in rows if "size" in row.more and row.cpu_us]
        if growth:
            _growth(folder / f"{name}-growth.svg", growth)


def _costs(file: Path, rows: Sequence[Row]) -> None:
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    figure, axes = pyplot.subplots(1, len(scenarios), figsize=(4.5 * len(scenarios), 2.8), squeeze=False)
    for axis, scenario in zip(axes[0], scenarios, strict=True):
        shown = [row for row in rows if row.scenario == scenario][::-1]
        bars = axis.barh([row.server for row in shown], [row.cpu_us for row in shown], color=[_color(r) for r in shown])
        axis.bar_label(bars, fmt="%.0f", padding=3)
        axis.set_title(f"CPU µs per check: {scenario}")
    _save(file, figure)


def _latencies(file: Path, rows: Sequence[Row]) -> None:
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    figure, axes = pyplot.subplots(1, len(scenarios), figsize=(4.5 * len(scenarios), 2.8), squeeze=False)
    for axis, scenario in zip(axes[0], scenarios, strict=True):
        shown = [row for row in rows if row.scenario == scenario][::-1]
        for place, row in enumerate(shown):
            points = [(value or 0) / 1000 for value in (row.p50_us, row.p99_us, row.p999_us)]
            axis.plot(points, [place] * 3, "-", color=_color(row))
            for marker, point in zip("o|x", points, strict=True):
                axis.plot([point], [place], marker, color=_color(row))
        axis.set_yticks(range(len(shown)), [row.server for row in shown])
        axis.set_xlim(left=0)
        axis.set_title(f"ms: p50 o, p99 |, p99.9 x. {scenario}")
    _save(file, figure)


def _growth(file: Path, rows: Sequence[Row]) -> None:
    kinds = list(dict.fromkeys(row.more["of"] for row in rows))
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(3.6 * len(kinds), 2.8), squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        shown = [row for row in rows if row.more["of"] == kind]
        axis.plot([row.more["size"] for row in shown], [row.cpu_us for row in shown], "o-", color=OURS)
        axis.set_xscale("log")
        axis.set_ylim(0, 1.15 * max(row.cpu_us or 0 for row in shown))
        axis.set_title(f"CPU µs over {kind}")
    _save(file, figure)


def _color(row: Row) -> str:
    return OURS if row.server.startswith("native") else THEIRS


def _save(file: Path, figure: Figure) -> None:
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
