"""Every setting as a table for people, from the same models that read the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from extauthz.settings.environment import names

Schema = Mapping[str, Any]


def render(model: type[BaseModel], title: str) -> str:
    """Return a Markdown document: a section for each part of the file, a row for each key."""
    whole = model.model_json_schema(by_alias=True)
    variables = {place: name for name, place in names(model)}
    lines = [f"# {title}", "", *_section(whole, whole, (), variables)]
    return "\n".join(lines) + "\n"


def _section(whole: Schema, part: Schema, place: tuple[str, ...], variables: Mapping[Any, str]) -> Iterator[str]:
    if place:
        yield from ("", f"## `{'.'.join(place)}`", "")
    yield from ("\n\n".join(_paragraphs(part.get("description", ""))), "")
    if variable := variables.get(place):
        yield from (f"Environment: `{variable}`, and with `_` and the key for each key.", "")
    yield from ("| Key | Type | Default | Meaning |", "|---|---|---|---|")
    required = part.get("required", ())
    for key, field in part["properties"].items():
        default = "required" if key in required else _default(field)
        yield f"| `{key}` | {_type(whole, field)} | {default} | {_meaning(whole, field)} |"
    for key, field in part["properties"].items():
        for inner, many in _models(whole, field):
            yield from _section(whole, inner, (*place, f"{key}[]" if many else key), variables)


def _models(whole: Schema, field: Schema, *, many: bool = False) -> Iterator[tuple[Schema, bool]]:
    """Yield the parts that a key holds, and whether it holds a list of them."""
    if "$ref" in field:
        found = _resolved(whole, field)
        if "properties" in found:
            yield found, many
    for alternative in field.get("anyOf", ()):
        yield from _models(whole, alternative, many=many)
    if "items" in field:
        yield from _models(whole, field["items"], many=True)


def _type(whole: Schema, field: Schema) -> str:
    found = _resolved(whole, field)
    if "anyOf" in found:
        return " or ".join(_type(whole, alternative) for alternative in found["anyOf"])
    if "enum" in found or "const" in found:
        return ", ".join(f"`{word}`" for word in found.get("enum", [found.get("const")]))
    if found.get("type") == "array":
        return f"list of {_type(whole, found.get('items', {}))}"
    kinds: dict[str, str] = {"string": "text", "object": "keys below", "boolean": "true or false", "null": "nothing"}
    kind: str = found.get("type", "anything")
    return kinds.get(kind, kind) + _limits(found)


def _limits(found: Schema) -> str:
    low = next((f"{word} {found[name]:g}" for name, word in _LOW if name in found), "")
    high = f"at most {found['maximum']:g}" if "maximum" in found else ""
    told = ", ".join(filter(None, (low, high)))
    return f", {told}" if told else ""


_LOW = (("minimum", "at least"), ("exclusiveMinimum", "above"))


def _default(field: Schema) -> str:
    if "default" not in field:
        return "see below"
    value = field["default"]
    if value is None:
        return "unset"
    if isinstance(value, dict):
        return "see below"
    return f"`{_cell(json.dumps(value))}`"


def _meaning(whole: Schema, field: Schema) -> str:
    own = field.get("description", "")
    parts = [part.get("description", "") for part, _ in _models(whole, field)]
    return _cell(own or next(filter(None, parts), "").split("\n\n")[0])


def _resolved(whole: Schema, field: Schema) -> Schema:
    if "$ref" in field:
        found: Schema = whole["$defs"][field["$ref"].rpartition("/")[2]]
        return found
    return field


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
