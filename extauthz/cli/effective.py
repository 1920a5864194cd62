"""The effective settings as YAML, each value with where it comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from extauthz.document import Document, Location
from extauthz.settings import Settings

COLUMN = 60
"""Where the sources stand, unless a value is longer."""

_USERINFO = re.compile(r"(://)[^/?#@\s]+@")


def render(settings: Settings, document: Document) -> str:
    """Return the settings as YAML that can be loaded again, but for passwords in addresses."""
    return "\n".join(_model(settings, document, (), "")) + "\n"


def _model(model: BaseModel, document: Document, place: Location, indent: str) -> Iterator[str]:
    for name, field in type(model).model_fields.items():
        key = field.alias or name
        yield from _value(f"{indent}{key}:", getattr(model, name), document, (*place, key), indent)


def _value(head: str, value: Any, document: Document, place: Location, indent: str) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield head
        yield from _model(value, document, place, indent + "  ")
    elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
        yield head
        for index, item in enumerate(value):
            first, *rest = _model(item, document, (*place, index), indent + "    ")
            yield f"{indent}  - {first.lstrip()}"
            yield from rest
    else:
        yield f"{head} {_text(value)}".ljust(COLUMN) + f" # {_source(document, place)}"


def _text(value: Any) -> str:
    plain = json.dumps(value, default=str, ensure_ascii=False)
    return _USERINFO.sub(r"\1(masked)@", plain)


def _source(document: Document, place: Location) -> str:
    if variable := document.variable(place):
        return f"environment variable {variable}"
    if place in document.positions:
        return f"{document.file}:{document.positions[place][0]}"
    return "default"
