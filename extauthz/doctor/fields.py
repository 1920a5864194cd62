"""Fields of objects that may be anything: what is not of the expected kind is as if it were not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]


def mapping(value: object, *path: str) -> Fields:
    """Return the mapping at a path; an empty one where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def mappings(value: object, *path: str) -> list[Fields]:
    """Return the mappings of the list at a path."""
    return [item for item in _items(value, path) if isinstance(item, Mapping)]


def texts(value: object, *path: str) -> list[str]:
    """Return the texts of the list at a path."""
    return [item for item in _items(value, path) if isinstance(item, str)]


def text_map(value: object, *path: str) -> dict[str, str]:
    """Return the names and texts of the mapping at a path."""
    return {key: text for key, text in mapping(value, *path).items() if isinstance(text, str)}


def _items(value: object, path: tuple[str, ...]) -> list[Any]:
    found = mapping(value, *path[:-1]).get(path[-1]) if path else value
    return found if isinstance(found, list) else []
