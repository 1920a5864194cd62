"""Typed reading of JSON objects, as kube-apiserver decodes them.

Absent and `null` are the zero value, unknown names are ignored, names are
case-sensitive, and a value of another type makes the whole object unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]

_NOTHING: Object = {}


class Located(dict[str, Any]):
    """A JSON object that knows the line it began on, counted from 1."""

    __slots__ = ("line",)
    line: int


class Undecodable(ValueError):
    """The object has a value of a wrong type; kube-apiserver answers 400. `line` is 0 where unknown."""

    def __init__(self, message: str, line: int = 0) -> None:
        self.line = line
        super().__init__(message)


class Unacceptable(ValueError):
    """The object reads well but kube-apiserver would not store or answer it: 422."""


def line_of(data: object) -> int:
    """Return the line an object began on, or 0."""
    return data.line if isinstance(data, Located) else 0


def text(data: Object, key: str) -> str:
    """Return a text field. Raises Undecodable."""
    value = data.get(key)
    return value if isinstance(value, str) else _text(data, key, value)


def texts(data: Object, key: str) -> tuple[str, ...]:
    """Return a list of texts. Raises Undecodable."""
    return tuple([item if isinstance(item, str) else _text(data, key, item) for item in _list(data, key)])


def optional(data: Object, key: str) -> Object | None:
    """Return an object field, or None where it is absent. Raises Undecodable."""
    value = data.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise _wrong(data, key, "an object", value)


def object_(data: Object, key: str) -> Object:
    """Return an object field, empty where it is absent. Raises Undecodable."""
    return optional(data, key) or _NOTHING


def objects(data: Object, key: str) -> Sequence[Object]:
    """Return a list of objects. Raises Undecodable."""
    items = _list(data, key)
    for item in items:
        if item is not None and not isinstance(item, dict):
            raise _wrong(data, key, "a list of objects", item)
    return [item or _NOTHING for item in items]


def text_map(data: Object, key: str) -> dict[str, str]:
    """Return an object whose values are all texts. Raises Undecodable."""
    values = object_(data, key)
    return {name: text(values, name) for name in values}


def _list(data: Object, key: str) -> Sequence[Any]:
    value = data.get(key)
    if value is None:
        return ()
    if isinstance(value, list):
        return value
    raise _wrong(data, key, "a list", value)


def _text(data: Object, key: str, value: object) -> str:
    if value is None:
        return ""
    raise _wrong(data, key, "text", value)


def _wrong(data: Object, key: str, expected: str, value: object) -> Undecodable:
    return Undecodable(f"{key}: expected {expected}, found {kind_of(value)}", line_of(data))


def kind_of(value: object) -> str:
    """Name the JSON type of a value for a message."""
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "text", list: "a list", type(None): "nothing"}
    return "an object" if isinstance(value, dict) else names.get(type(value), "a number")
