"""Path templates: what a rule's `match.path` means, segment by segment."""

from __future__ import annotations

import re
from dataclasses import dataclass

from extauthz.policy.hosts import HostPattern
from extauthz.request import read
from extauthz.request.faults import MAX_SEGMENTS

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_.]*?)(\.\.\.)?\}(:[A-Za-z][A-Za-z0-9-]*)?")


class Mistake(ValueError):
    """Something in a rule cannot be meant; `hint` says how to mend it."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: a literal, or a variable with an optional fixed suffix, or the tail of the path."""

    literal: str = ""
    variable: str = ""
    suffix: str = ""
    tail: bool = False

    def overlaps(self, other: Segment) -> bool:
        """Whether some text fits both, letter case aside."""
        if not self.variable and not other.variable:
            return self.literal.lower() == other.literal.lower()
        if self.variable and other.variable:
            return not self.suffix or not other.suffix or self.suffix.lower() == other.suffix.lower()
        literal, suffix = (self.literal or other.literal).lower(), (self.suffix or other.suffix).lower()
        return literal.endswith(suffix) and len(literal) > len(suffix)


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed path template."""

    text: str
    segments: tuple[Segment, ...]
    host: HostPattern | None = None
    """The host pattern of the rule, where its labels have names."""

    @property
    def variables(self) -> dict[str, int]:
        """The variables and the index of the segment where each starts."""
        return {segment.variable: index for index, segment in enumerate(self.segments) if segment.variable}

    @property
    def tail(self) -> int | None:
        """The index at which the tail starts, or None."""
        return len(self.segments) - 1 if self.segments[-1].tail else None

    @property
    def shape(self) -> str:
        """The template without the names of its variables."""
        parts = (
            "{...}" if part.tail else part.literal or bool(part.variable) * "{}" + part.suffix for part in self.segments
        )
        return "/" + "/".join(parts)

    def lies_below(self, other: Template) -> bool:
        """Whether some path fits both, and this template looks at segments of the other's tail."""
        if other.tail is None or len(self.segments) <= other.tail:
            return False
        return all(mine.overlaps(its) for mine, its in zip(self.segments, other.segments[: other.tail], strict=False))


def parse(text: str) -> Template:
    """Parse a template. Raises Mistake."""
    segments = tuple(_segment(part) for part in text.split("/")[1:])
    if len(segments) > MAX_SEGMENTS:
        raise Mistake(f"more than {MAX_SEGMENTS} segments, so no request could ever match it")
    if any(segment.tail for segment in segments[:-1]):
        raise Mistake("a {name...} variable must be the last segment")
    names = [segment.variable for segment in segments if segment.variable]
    if len(set(names)) != len(names):
        raise Mistake("a variable is named twice")
    example = "/" + "/".join("x" if segment.variable else segment.literal for segment in segments)
    if read(method="GET", target=example, headers={}).faults:
        raise Mistake(f"{text!r} is not in canonical form, so no request could ever match it")
    return Template(text, segments)


def _segment(part: str) -> Segment:
    variable = _VARIABLE.fullmatch(part)
    if variable is None:
        return Segment(literal=_literal(part))
    name, dots, suffix = variable.groups()
    if dots and suffix:
        raise Mistake(f"segment {part!r} is a tail and cannot have a suffix")
    return Segment(variable=name, suffix=suffix or "", tail=bool(dots))


def _literal(part: str) -> str:
    if "{" in part or "}" in part:
        raise Mistake(f"segment {part!r} is not a variable such as {{name}}, {{name}}:verb or {{name...}}")
    if "*" in part:
        raise Mistake("'*' is no wildcard", "write {name} for one segment, {name...} for all the rest")
    if "?" in part:
        raise Mistake("a path has no query", "read parameters with query:NAME")
    return part
