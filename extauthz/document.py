"""YAML documents that remember where each value stood, checked against pydantic models.

Settings and policies decide who gets in, so nothing in them is guessed: duplicate keys,
anchors, aliases and tags are refused, scalars follow the YAML 1.2 core schema (`no` and
`010` stay text), and every error names file, line, column and a way to mend it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

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
    """One YAML document as plain data, with the line and column of every key and item.

    `variables` are the places whose values come from environment variables instead.
    """

    file: Path
    data: Any
    positions: dict[Location, tuple[int, int]]
    variables: Mapping[Location, str] = field(default_factory=dict)

    def position(self, location: Location) -> tuple[int, int]:
        """Return line and column of a place, or of the nearest known place above it."""
        return self.positions.get(self._known(location), (1, 1))

    def variable(self, location: Location) -> str:
        """Return the environment variable that a place has its value from; empty where there is none."""
        lengths = range(len(location), 0, -1)
        return next((self.variables[at] for n in lengths if (at := location[:n]) in self.variables), "")

    def problem(self, location: Location, message: str, hint: str = "") -> Problem:
        """Describe what is wrong at a place in this document."""
        if variable := self.variable(location):
            return Problem(f"environment variable {variable}: {message}", hint=hint)
        line, column = self.position(location)
        return Problem(message, self.file, line, column, hint)

    def validate(self, model: type[ModelT]) -> ModelT:
        """Return the document as a `model`. Raises ConfigurationError with every problem found."""
        if not isinstance(self.data, dict):
            raise ConfigurationError(self.problem((), f"expected a mapping, found {_kind(self.data)}"))
        try:
            return model.model_validate(self.data, by_alias=True, by_name=False)
        except ValidationError as error:
            raise ConfigurationError(*self._problems(error, model)) from None

    def _problems(self, error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
        items = error.errors(include_url=False)
        places = [self._known(item["loc"]) for item in items]
        for item, place in zip(items, places, strict=True):
            # Each branch of a union complains; the branch that got furthest knows best.
            in_branch = len(place) < len(item["loc"]) and item["type"] != "missing"
            if not (in_branch and any(other[: len(place)] == place != other for other in places)):
                yield self.problem(place, *_explain(item, _label(place), model))

    def _is_set(self, location: Location) -> bool:
        """Whether a place, one above it or one below it comes from an environment variable."""
        below = any(place[: len(location)] == location for place in self.variables)
        return below or bool(self.variable(location))

    def _known(self, location: Location) -> Location:
        """The location without what pydantic adds to it, such as the branches of unions."""
        known: Location = ()
        for part in location:
            if (*known, part) in self.positions or self._is_set((*known, part)):
                known = (*known, part)
        return known


def near(word: str, names: Iterable[str], *, likeness: float = 0.6) -> str:
    """Return a hint at the name that was probably meant, or an empty text. 1 is the greatest likeness."""
    folded = {name.lower(): name for name in names}
    found = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=likeness)
    return f"did you mean {folded[found[0]]!r}?" if found else ""


def read(file: Path) -> list[Document]:
    """Read every YAML document of a file; there is at least one. Raises ConfigurationError."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", file)) from error
    return parse(content, file)


def parse(content: bytes, file: Path) -> list[Document]:
    """Parse YAML bytes that came from `file`; there is at least one document. Raises ConfigurationError."""
    if len(content) > MAX_BYTES:
        raise ConfigurationError(Problem(f"larger than {MAX_BYTES} bytes", file))
    try:
        documents = list(_Composer(file).documents(content.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise ConfigurationError(Problem("not UTF-8", file, *_place(content, error.start))) from error
    except yaml.reader.ReaderError as error:
        message = f"control character U+{int(error.character):04X}"
        raise ConfigurationError(Problem(message, file, *_place(content, error.position))) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigurationError(Problem(f"not valid YAML: {error.problem}", file, *place)) from error
    if not documents:
        raise ConfigurationError(Problem("the file holds no YAML document", file))
    return documents


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
        self.positions.setdefault(location, _start(event))
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
            if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
                raise self._refuse(event, "a key must be plain text")
            key = event.value
            if key in mapping:
                raise self._refuse(event, f"duplicate key {key!r}", "keep one of them")
            place = (*location, key)
            self.positions[place] = _start(event)
            mapping[key] = self._value(next(events), events, place)
        return mapping

    def _refuse(self, event: Any, message: str, hint: str = "") -> ConfigurationError:
        return ConfigurationError(Problem(message, self.file, *_start(event), hint))


def _start(event: Any) -> tuple[int, int]:
    """Line and column where an event starts."""
    return event.start_mark.line + 1, event.start_mark.column + 1


def _scalar(text: str) -> Any:
    lowered = text.lower()
    if lowered in _CORE and text in (lowered, lowered.capitalize(), lowered.upper()):
        return _CORE[lowered]
    if _INTEGER.fullmatch(text) and len(text) <= 18:
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _place(content: bytes, offset: int) -> tuple[int, int]:
    """Line and column of a byte."""
    before = content[:offset]
    return before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1


def _kind(data: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(data), "a number")


def _label(place: Location) -> str:
    """The key that a problem is about, with its index where it is an item."""
    names = [part for part in place if isinstance(part, str)]
    index = f"[{place[-1]}]" if place and isinstance(place[-1], int) else ""
    return f"{names[-1]}{index}: " if names else ""


def _explain(item: ErrorDetails, label: str, model: type[BaseModel]) -> tuple[str, str]:
    """The message and the hint of one validation error."""
    kind, given = item["type"], item["input"]
    if kind == "extra_forbidden":
        key = str(item["loc"][-1])
        keys = _keys(model)
        misplaced = "the key belongs to another section: check the indentation"
        return f"unknown key {key!r}", misplaced if key in keys else near(key, keys)
    if kind == "missing":
        return f"required key {item['loc'][-1]!r} is missing", ""
    if kind == "value_error":
        return str(item["ctx"]["error"]), ""
    hint = ""
    if kind == "string_type" and isinstance(given, int | float):
        hint = "put it in quotes"
    elif kind in ("literal_error", "enum") and isinstance(given, str):
        hint = near(given, re.findall(r"'([^']+)'", item["ctx"]["expected"]))
    return label + item["msg"], hint


@cache
def _keys(model: type[BaseModel]) -> frozenset[str]:
    """Every key that the model or a model below it knows."""
    definitions = model.model_json_schema(by_alias=True)
    schemas = (definitions, *definitions.get("$defs", {}).values())
    return frozenset(name for schema in schemas for name in schema.get("properties", {}))
