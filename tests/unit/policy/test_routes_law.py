"""The trie against an obviously right matcher: compare every template, sort, take the first."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from extauthz.policy import Missing
from extauthz.policy.template import Segment, Template, parse
from tests.unit.policy.build import ask, rules

WORDS = ["a", "b", "c:go", "d:up"]
PARTS = [*WORDS, "{V}", "{V}", "{V}:go", "{V}:up"]


def named(parts: list[str]) -> str:
    """Return the path of template parts, with a name of its own for each variable."""
    return "/" + "/".join(part.replace("V", f"v{index}") for index, part in enumerate(parts))


templates = st.builds(
    lambda parts, end: named([*parts, *end]),
    st.lists(st.sampled_from(PARTS), max_size=3),
    st.sampled_from([["{V...}"], ["a"], ["{V}"], ["{V}:go"], [""]]),
)
targets = st.lists(st.sampled_from([*WORDS, "x", "x:go", ":go"]), min_size=1, max_size=4).flatmap(
    lambda words: st.sampled_from(["/" + "/".join(words), "/" + "/".join(words) + "/"])
)


def rank(segment: Segment) -> int:
    """Return how specific a segment is; 0 is the most specific."""
    return 3 if segment.tail else 0 if not segment.variable else 1 if segment.suffix else 2


def matches(template: Template, target: str) -> bool:
    """Whether a template fits a path, by a regular expression."""
    patterns: list[Callable[[str], str]] = [re.escape, lambda _: "[^/]+", lambda _: "[^/]+", lambda _: ".*"]
    parts = (patterns[rank(part)](part.literal) + re.escape(part.suffix) for part in template.segments)
    return re.fullmatch("".join("/" + part for part in parts), target) is not None


@given(st.lists(templates, min_size=1, max_size=8, unique_by=lambda text: parse(text).shape), targets)
def test_the_trie_finds_what_a_comparison_of_all_templates_finds(texts: list[str], target: str) -> None:
    """The best fitting template is the one whose segments rank lowest, from the left."""
    best = first(texts, target)
    found = rules(*({"match": {"path": text}, "allow": "public"} for text in texts)).find(ask(target))
    if best is not None and best.tail is not None and target.endswith("/") and best.tail < target.count("/") - 1:
        # Without its last slash the path may have a rule of its own, which must not be walked around.
        bare = first(texts, target[:-1])
        best = None if bare is not None and bare.tail is None else best
    assert (None if isinstance(found, Missing) else found.template) == best


def first(texts: list[str], target: str) -> Template | None:
    """Return the most specific template that fits."""
    fitting = (template for template in map(parse, texts) if matches(template, target))
    return min(fitting, key=lambda template: [*map(rank, template.segments)], default=None)


@given(templates, templates, targets)
def test_overlap_is_never_missed(below: str, tolerant: str, target: str) -> None:
    """Of two templates that fit one path, the deeper one is seen to lie below the other's tail."""
    one, other = parse(below), parse(tolerant)
    if other.tail is not None and len(one.segments) > other.tail and matches(one, target) and matches(other, target):
        assert one.lies_below(other)
