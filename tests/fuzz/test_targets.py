"""A short run of every fuzz target: the kept corpus, and what hypothesis makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, corpus

EXAMPLES = 300


@st.composite
def mutations(draw: st.DrawFn, name: str) -> bytes:
    """Cut kept inputs apart, join them, and put other bytes in between."""
    seeds = st.sampled_from(corpus(name))
    first, second = draw(seeds), draw(seeds)
    start, end = draw(st.integers(0, len(first))), draw(st.integers(0, len(second)))
    return first[:start] + draw(st.binary(max_size=8)) + second[end:]


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_corpus(name: str, tmp_path: Path) -> None:
    """What once failed, and what others are made from."""
    target = TARGETS[name](tmp_path)
    for data in corpus(name):
        target(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_it(name: str, tmp_path: Path) -> None:
    """Whatever the bytes, a target neither fails nor lets pass what it must not."""
    target = TARGETS[name](tmp_path)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(mutations(name) | st.binary(max_size=200))
    def run(data: bytes) -> None:
        target(data)

    run()
