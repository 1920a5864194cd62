"""Charts as SVG: drawn here, coloured by the style sheet, and told in words for whoever cannot see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10

from markupsafe import Markup

WIDTH, HEIGHT = 640, 170
LEFT, BOTTOM, TOP = 52, 24, 8

Layer = tuple[str, str]
"""The class of a colour, and its name."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and what it says in one sentence."""

    svg: Markup
    summary: str


def bars(columns: Sequence[Sequence[float]], layers: Sequence[Layer], labels: Sequence[str], summary: str) -> Chart:
    """Stack the values of each column; `labels` say what stands below columns, empty for most."""
    most = _ceiling(max((sum(column) for column in columns), default=0))
    step = (WIDTH - LEFT) / max(len(columns), 1)
    parts = [_axis(most, _number)]
    for index, column in enumerate(columns):
        base = 0.0
        for value, (colour, _) in zip(column, layers, strict=True):
            if value > 0:
                top, height = _y(base + value, most), _y(base, most) - _y(base + value, most)
                parts.append(
                    Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                        colour, LEFT + index * step, top, max(step - 1, 1), height
                    )
                )
            base += value
    parts += _labels(labels, step)
    return Chart(_svg(parts, summary), summary)


def lines(
    series: Sequence[Sequence[float | None]], layers: Sequence[Layer], labels: Sequence[str], summary: str
) -> Chart:
    """Draw each series of seconds; None leaves a gap."""
    known = [value for values in series for value in values if value is not None]
    most = _ceiling(max(known, default=0))
    step = (WIDTH - LEFT) / max(len(labels), 1)
    parts = [_axis(most, duration)]
    for values, (colour, _) in zip(series, layers, strict=True):
        for piece in _pieces(values):
            points = " ".join(f"{LEFT + (index + 0.5) * step:.1f},{_y(value, most):.1f}" for index, value in piece)
            if len(piece) == 1:
                x, y = points.split(",")
                parts.append(Markup('<circle class="{}" cx="{}" cy="{}" r="2.5"/>').format(colour, x, y))
            else:
                parts.append(Markup('<polyline class="line {}" points="{}"/>').format(colour, points))
    parts += _labels(labels, step)
    return Chart(_svg(parts, summary), summary)


def duration(seconds: float) -> str:
    """Say a duration as people do."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _pieces(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    pieces: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((index, value))
    return [piece for piece in pieces if piece]


def _svg(parts: Sequence[Markup], summary: str) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, summary)
    return head + Markup("").join(parts) + Markup("</svg>")


def _axis(most: float, say: Callable[[float], str]) -> Markup:
    rows = Markup("")
    for share in (0, 0.5, 1):
        value, y = most * share, _y(most * share, most)
        text = say(value) if value else "0"
        rows += Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH, y, y)
        rows += Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(LEFT - 6, y + 4, text)
    return rows


def _labels(labels: Sequence[str], step: float) -> list[Markup]:
    return [
        Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
            LEFT + (index + 0.5) * step, HEIGHT - 7, _anchor(index, len(labels)), label
        )
        for index, label in enumerate(labels)
        if label
    ]


def _anchor(index: int, columns: int) -> str:
    return "start" if index == 0 else "end" if index == columns - 1 else "middle"


def _y(value: float, most: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value / most if most else 0)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _ceiling(value: float) -> float:
    """Return a round number that is at least the value."""
    if value <= 0:
        return 1
    unit = 10.0 ** floor(log10(value))
    return next((unit * step for step in (1, 2, 4, 5, 10) if unit * step >= value), value)
