"""Charts: what is drawn, and what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extauthz.console import charts

LAYERS = (("good", "allowed"), ("bad", "failed"))


def test_bars_are_stacked() -> None:
    """Each value above nothing is one rectangle in its colour."""
    drawn = charts.bars([(1, 1), (0, 2)], LAYERS, ["then", "now"], "said <b>").svg
    assert drawn.count('<rect class="good"') == 1
    assert drawn.count('<rect class="bad"') == 2
    assert 'aria-label="said &lt;b&gt;"' in drawn
    assert ">then</text>" in drawn


def test_lines_leave_gaps() -> None:
    """A lonely point is a dot, and where nothing is known nothing is drawn."""
    drawn = charts.lines([[0.001, 0.002, None, 0.003], [None] * 4], LAYERS, [""] * 4, "said").svg
    assert drawn.count("<polyline") == 1
    assert drawn.count("<circle") == 1
    assert "4 ms" in drawn


@example([(5e-324, 5e-324)])
@given(st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 1e12))))
def test_nothing_is_drawn_outside(columns: list[tuple[float, float]]) -> None:
    """Whatever the values are, none or huge ones."""
    drawn = charts.bars(columns, LAYERS, [""] * len(columns), "said").svg
    heights = [float(part.split('"')[0]) for part in drawn.split('height="')[1:]]
    assert all(0 <= height <= charts.HEIGHT for height in heights)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 µs"), (0.000_025, "25 µs"), (0.0125, "12.5 ms"), (1, "1 s"), (2.5, "2.5 s")]
)
def test_durations_are_said_as_people_do(seconds: float, words: str) -> None:
    """In the unit that needs no zeros."""
    assert charts.duration(seconds) == words
