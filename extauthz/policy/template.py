"""Path templates: what a rule's `match.path` means, segment by segment."""

from __future__ import annotations

import re
from dataclasses import dataclass

from extauthz.request import read

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_.]*?)(\.\.\.)?\}(:[A-Za-z][A-Za-z0-9-]*)?")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: a literal, or a variable with an optional fixed suffix, or the tail of the path."""

    literal: str = ""
    variable: str = ""
    suffix: str = ""
    tail: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed path template."""

    text: str
    segments: tuple[Segment, ...]

    @property
    def variables(self) -> dict[str, int]:
        """The variables and the index of the segment where each starts."""
        return {segment.variable: index for index, segment in enumerate(self.segments) if segment.variable}

    @property
    def tail(self) -> int | None:
        """The index at which the tail starts, or None."""
        return len(self.segments) - 1 if self.segments[-1].tail else None


def parse(text: str) -> Template:
    """Parse a template. Raises ValueError with a sentence that says what is wrong."""
    segments = tuple(_segment(part) for part in text.split("/")[1:])
    if any(segment.tail for segment in segments[:-1]):
        raise ValueError("a {name...} variable must be the last segment")
    names = [segment.variable for segment in segments if segment.variable]
    if len(set(names)) != len(names):
        raise ValueError("a variable is named twice")
    literals = [segment.literal for segment in segments if not segment.variable]
    if read(method="GET", target="/" + "/".join(literals), headers={}).faults:
        raise ValueError("a literal segment is not in canonical form, so no request could ever match it")
    return Template(text, segments)


def _segment(part: str) -> Segment:
    variable = _VARIABLE.fullmatch(part)
    if variable is None:
        if "{" in part or "}" in part:
            raise ValueError(f"segment {part!r} is not a variable such as {{name}}, {{name}}:verb or {{name...}}")
        return Segment(literal=part)
    name, dots, suffix = variable.groups()
    if dots and suffix:
        raise ValueError(f"segment {part!r} is a tail and cannot have a suffix")
    return Segment(variable=name, suffix=suffix or "", tail=bool(dots))
