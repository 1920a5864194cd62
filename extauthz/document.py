"""YAML documents that remember where each value stood, checked against pydantic models.

Settings and policies decide who gets in, so nothing in them is guessed: duplicate keys,
anchors, aliases and tags are refused, scalars follow the YAML 1.2 core schema (`no` and
`010` stay text), and every error names file, line, column and a way to mend it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from extauthz.errors import ConfigurationError, Problem

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32

Location = tuple[str | int, ...]
ModelT = TypeVar("ModelT", bound=BaseModel)

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
_CORE = {"null": None, "~": None, "": None, "true": True, "false": False}


class Model(BaseModel):
    """Base of everything that is read from YAML: strict types, camelCase keys, no unknown key."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document as plain data, with the line and column of every key and item."""

    file: Path
    data: Any
    positions: dict[Location, tuple[int, int]]

    def position(self, location: Location) -> tuple[int, int]:
        """Return line and column of a place, or of the nearest known place above it."""
        known: Location = ()
        for part in location:
            if (*known, part) in self.positions:
                known = (*known, part)
        return self.positions.get(known, (1, 1))

    def problem(self, location: Location, message: str, hint: str = "") -> Problem:
        """Describe what is wrong at a place in this document."""
        line, column = self.position(location)
        return Problem(message, self.file, line, column, hint)

    def validate(self, model: type[ModelT]) -> ModelT:
        """Return the document as a `model`. Raises ConfigurationError with every problem found."""
        if not isinstance(self.data, dict):
            raise ConfigurationError(self.problem((), f"expected a mapping, found {_kind(self.data)}"))
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            raise ConfigurationError(*self._problems(error, model)) from None

    def _problems(self, error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
        for item in error.errors(include_url=False):
            location, message, hint = item["loc"], item["msg"], ""
            if item["type"] == "extra_forbidden":
                key = str(location[-1])
                message = f"unknown key {key!r}"
                near = difflib.get_close_matches(key, _keys(model), n=1)
                hint = f"did you mean {near[0]!r}?" if near else ""
            elif item["type"] == "missing":
                message = f"required key {location[-1]!r} is missing"
            elif item["type"] == "value_error":
                message = str(item["ctx"]["error"])
            elif location:
                message = f"{location[-1]}: {message}"
            yield self.problem(location, message, hint)


def read(file: Path) -> list[Document]:
    """Read every YAML document of a file. Raises ConfigurationError."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", file)) from error
    return parse(content, file)


def parse(content: bytes, file: Path) -> list[Document]:
    """Parse YAML bytes that came from `file`. Raises ConfigurationError."""
    if len(content) > MAX_BYTES:
        raise ConfigurationError(Problem(f"larger than {MAX_BYTES} bytes", file))
    try:
        text = content.decode("utf-8")
        return list(_Composer(file).documents(text))
    except UnicodeDecodeError as error:
        raise ConfigurationError(Problem(f"not UTF-8 at byte {error.start}", file)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigurationError(Problem(f"not valid YAML: {error.problem}", file, line, column)) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(Problem(f"not valid YAML: {error}", file)) from error


class _Composer:
    """Builds plain data straight from the parser's events; recursion is bounded by MAX_DEPTH."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.positions: dict[Location, tuple[int, int]] = {}

    def documents(self, text: str) -> Iterator[Document]:
        events = yaml.parse(text, Loader=yaml.CSafeLoader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.positions = {}
                data = self._value(next(events), events, ())
                yield Document(self.file, data, self.positions)

    def _value(self, event: Any, events: Iterator[Any], location: Location) -> Any:
        self.positions.setdefault(location, (event.start_mark.line + 1, event.start_mark.column + 1))
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise self._refuse(event, "anchors and aliases are not supported", "write the value out")
        if event.tag and event.tag != "!":
            raise self._refuse(event, f"tag {event.tag!r} is not supported", "remove it")
        if len(location) > MAX_DEPTH:
            raise self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style or event.tag else _scalar(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, location)
        return self._mapping(events, location)

    def _sequence(self, events: Iterator[Any], location: Location) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._value(event, events, (*location, len(items))))
        return items

    def _mapping(self, events: Iterator[Any], location: Location) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.anchor:
                raise self._refuse(event, "a key must be plain text")
            key = event.value
            if key in mapping:
                raise self._refuse(event, f"duplicate key {key!r}", "keep one of them")
            place = (*location, key)
            self.positions[place] = (event.start_mark.line + 1, event.start_mark.column + 1)
            mapping[key] = self._value(next(events), events, place)
        return mapping

    def _refuse(self, event: Any, message: str, hint: str = "") -> ConfigurationError:
        mark = event.start_mark
        return ConfigurationError(Problem(message, self.file, mark.line + 1, mark.column + 1, hint))


def _scalar(text: str) -> Any:
    lowered = text.lower()
    if lowered in _CORE and text in (lowered, lowered.capitalize(), lowered.upper()):
        return _CORE[lowered]
    if _INTEGER.fullmatch(text) and len(text) <= 18:
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _kind(data: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", type(None): "nothing"}
    return names.get(type(data), f"a {type(data).__name__}")


def _keys(model: type[BaseModel]) -> set[str]:
    """Every key that the model or a model below it knows."""
    names: set[str] = set()
    definitions = model.model_json_schema(by_alias=True)
    for schema in (definitions, *definitions.get("$defs", {}).values()):
        names.update(schema.get("properties", {}))
    return names
