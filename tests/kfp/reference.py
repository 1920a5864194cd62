"""How a location of the reference file is written as a source of a rule.

The reference names fields as KFP's code does; sources name the members of the request and
the values of enums by both of their spellings.
"""

from __future__ import annotations

import re

_TYPES = {"EXPERIMENT": 1, "JOB": 2, "PIPELINE": 3, "PIPELINE_VERSION": 4, "NAMESPACE": 5}
_RELATIONSHIPS = {"OWNER": 1, "CREATOR": 2}
_SELECTED = re.compile(r"\[([^\]=]+==[^\]]+)\](?:\[(?:0|-1)\])?")
_NAME = re.compile(r"^lookup:([a-z_]+)\.[a-z0-9_]+:")
_ELSEWHERE = ("lookup:signed_token", "lookup:task", "host:", "none")


def as_source(location: str) -> str | None:
    """Return the source, or None where no rule can read the place."""
    if location.startswith(_ELSEWHERE):
        return None
    head, body, pointer = location.partition("body:")
    if body:
        return _NAME.sub(r"lookup:\1.name:", head) + "body:/" + _pointer(pointer)
    # A query that repeats a name is refused, so its only value is the whole list.
    return _NAME.sub(r"lookup:\1.name:", location).removesuffix("[*]")


def _pointer(text: str) -> str:
    selected = _SELECTED.sub(lambda found: "{" + _conditions(found[1]) + "}", text.replace("[*]", "{}"))
    return selected.replace(".", "/")


def _conditions(text: str) -> str:
    found = (part.split("==") for part in text.split(","))
    return ",".join(f"{name}={value}|{(_TYPES | _RELATIONSHIPS)[value]}" for name, value in found)
