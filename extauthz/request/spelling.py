"""Names that servers take for the same name, although they are spelled differently."""

from __future__ import annotations

import itertools
import re

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def header_spellings(name: str) -> list[str]:
    """Return every spelling of a header name that a CGI-like server reads as the same one, itself first."""
    parts = name.split("-")
    joints = itertools.product("-_", repeat=len(parts) - 1)
    return ["".join(itertools.chain(*zip(parts, (*joint, ""), strict=True))) for joint in joints]


def camel_case(name: str) -> str:
    """Return the protobuf JSON name of a snake_case field: `experiment_id` is `experimentId`."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def snake_case(name: str) -> str:
    """Return the snake_case name of a protobuf JSON field; what is no camelCase stays as it is."""
    return _CAMEL.sub("_", name).lower() if name[:1].islower() and not name.islower() else name
