"""Manifest files as plain data: YAML as kubectl understands it, or JSON.

Other than our own strict files, manifests may use anchors, aliases and merge keys, and
plain scalars follow YAML 1.1 as kubectl's parser has them (`yes` and `on` are booleans),
but for a lone `y` or `n`, which most writers of YAML mean as text.
Duplicate names, tags, and files that are huge, nested too deep or blown up by aliases are
refused. Objects read from YAML know their line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from extauthz.access.rbac.fields import Located
from extauthz.errors import ConfigurationError, Problem

MAX_BYTES = 512 * 1024 * 1024
MAX_DEPTH = 200
MAX_ALIASED = 1_000_000
"""How many values aliases may stand for in one file."""

SUFFIXES = frozenset({".yaml", ".yml", ".json"})

_STARTS_SPECIAL = frozenset("0123456789+-.~yYnNtTfFoO")
_NUMBER = re.compile(
    r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))"
    r"|\.(nan|NaN|NAN)",
    re.ASCII,
)
_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_STRING_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_COLLECTION_TAGS = frozenset({None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_BLANK = re.compile(r"[ \t\r\n]*")


def read(file: Path) -> Iterator[Any]:
    """Yield every document of a file, empty ones as None. Raises ConfigurationError."""
    text = _text(file)
    is_json = file.suffix == ".json" or (file.suffix not in SUFFIXES and text.lstrip().startswith("{"))
    return _json_documents(text, file) if is_json else _yaml_documents(text, file)


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", file)) from error
    if len(content) > MAX_BYTES:
        raise ConfigurationError(Problem(f"larger than {MAX_BYTES} bytes", file))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(Problem(f"not UTF-8 at byte {error.start}", file)) from error


def _json_documents(text: str, file: Path) -> Iterator[Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_int=float)
    place = _after_blank(text, 0)
    while place < len(text):
        try:
            data, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            problem = Problem(f"not valid JSON: {error.msg}", file, error.lineno, error.colno)
            raise ConfigurationError(problem) from error
        except (RecursionError, _DuplicateNameError) as error:
            line = text.count("\n", 0, place) + 1
            message = str(error) if isinstance(error, _DuplicateNameError) else "nested too deep"
            raise ConfigurationError(Problem(f"{message} in the object that begins here", file, line, 1)) from error
        yield data
        place = _after_blank(text, place)


def _after_blank(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    return match.end() if match else place


class _DuplicateNameError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateNameError(f"duplicate name {next(n for n in names if names.count(n) > 1)!r}")
    return found


def _yaml_documents(text: str, file: Path) -> Iterator[Any]:
    reader = _YamlReader(text, file)
    try:
        yield from reader.documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise ConfigurationError(Problem(f"not valid YAML: {error.problem}", file, line, column)) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(Problem(f"not valid YAML: {error}", file)) from error


class _YamlReader:
    """Builds plain data straight from the parser's events, one document at a time."""

    def __init__(self, text: str, file: Path) -> None:
        self._file = file
        self._next: Any = yaml.CSafeLoader(text).get_event
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self._aliased = 0

    def documents(self) -> Iterator[Any]:
        while (event := self._next()) is not None:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                yield self._value(self._next(), 0)

    def _value(self, event: Any, depth: int) -> Any:
        kind = event.__class__
        if kind is yaml.AliasEvent:
            return self._alias(event)
        before = self._count
        self._count += 1
        if kind is yaml.ScalarEvent:
            data = self._scalar(event)
        elif depth >= MAX_DEPTH:
            raise self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        elif event.tag not in _COLLECTION_TAGS:
            raise self._refuse(event, f"tag {event.tag!r} is not supported", "remove it")
        elif kind is yaml.MappingStartEvent:
            data = self._mapping(event, depth + 1)
        else:
            data = self._sequence(depth + 1)
        if event.anchor:
            self._anchors[event.anchor] = (data, self._count - before)
        return data

    def _scalar(self, event: Any) -> Any:
        if event.tag is None:
            return event.value if event.style else _plain(event.value)
        if event.tag not in _STRING_TAGS:
            raise self._refuse(event, f"tag {event.tag!r} is not supported", "remove it")
        return event.value

    def _sequence(self, depth: int) -> list[Any]:
        items = []
        while (event := self._next()).__class__ is not yaml.SequenceEndEvent:
            items.append(self._value(event, depth))
        return items

    def _mapping(self, start: Any, depth: int) -> Located:
        mapping, merged = Located(), []
        mapping.line = start.start_mark.line + 1
        while (event := self._next()).__class__ is not yaml.MappingEndEvent:
            key = self._key(event)
            if key == "<<" and not event.style:
                merged += self._merged(event, self._value(self._next(), depth))
            elif key in mapping:
                raise self._refuse(event, f"duplicate key {key!r}", "keep one of them")
            else:
                mapping[key] = self._value(self._next(), depth)
        for source in merged:
            for key, value in source.items():
                mapping.setdefault(key, value)
        return mapping

    def _key(self, event: Any) -> str:
        if event.__class__ is not yaml.ScalarEvent or event.anchor:
            raise self._refuse(event, "a key must be plain text")
        return str(event.value)

    def _merged(self, event: Any, value: Any) -> list[Located]:
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, Located) for source in sources):
            raise self._refuse(event, "only mappings can be merged")
        return sources

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise self._refuse(event, f"unknown or recursive alias {event.anchor!r}")
        data, count = self._anchors[event.anchor]
        self._count += count
        self._aliased += count
        if self._aliased > MAX_ALIASED:
            raise self._refuse(event, f"aliases stand for more than {MAX_ALIASED} values")
        return data

    def _refuse(self, event: Any, message: str, hint: str = "") -> ConfigurationError:
        mark = event.start_mark
        return ConfigurationError(Problem(message, self._file, mark.line + 1, mark.column + 1, hint))


def _plain(text: str) -> Any:
    """Resolve a plain scalar as kubectl's YAML library does; numbers become NaN, since no field here is one."""
    if text and text[0] not in _STARTS_SPECIAL:
        return text
    if text in _WORDS:
        return _WORDS[text]
    return math.nan if _NUMBER.fullmatch(text.replace("_", "")) else text
