"""Environment variables that stand for keys of a settings file.

`EXTAUTHZ_LISTENERS_GRPC_ADDRESS` is `listeners.grpc.address`: the keys in capitals, with an
underscore between words and between keys. Text is taken as it is, everything else is read as
YAML, such as `[a, b]`. A variable that names no key is an error, like an unknown key. Those
that kubelet sets for a Service called extauthz are left alone.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from extauthz import document
from extauthz.document import Document, Location
from extauthz.errors import ConfigurationError, Problem

PREFIX = "EXTAUTHZ_"

_SERVICE_LINK = re.compile(
    r"EXTAUTHZ(_[A-Z0-9_]+)?_"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def override(settings: Document, model: type[BaseModel], environment: Mapping[str, str]) -> Document:
    """Return settings with what the environment says of them. Raises ConfigurationError with every problem found."""
    variables: dict[Location, str] = {}
    problems: list[Problem] = []
    data = settings.data
    for name in sorted(environment):
        if name.startswith(PREFIX) and _SERVICE_LINK.fullmatch(name) is None:
            try:
                place, field = _find(name, model)
                data = _set(data, place, _read(name, environment[name], field), name)
                variables[place] = name
            except ConfigurationError as error:
                problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
    return replace(settings, data=data, variables=variables)


def names(model: type[BaseModel]) -> Iterator[tuple[str, Location]]:
    """Yield the variable of every key that can be set by one, and the key's place."""
    return ((name, place) for name, place, _ in _places(model, PREFIX))


def _places(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Location, FieldInfo]]:
    for key, field in _fields(model):
        name = prefix + _words(key)
        yield name, (key,), field
        if inner := _inner(field):
            yield from ((found, (key, *place), below) for found, place, below in _places(inner, f"{name}_"))


def _find(name: str, model: type[BaseModel]) -> tuple[Location, FieldInfo]:
    """Return the place that a variable names, and what stands there. Raises ConfigurationError."""
    known = {found: (place, field) for found, place, field in _places(model, PREFIX)}
    if name not in known:
        hint = document.near(name, known) or "its name is made of the keys of the settings"
        raise _wrong(name, "names no key of the settings", hint)
    return known[name]


def _read(name: str, value: str, field: FieldInfo) -> Any:
    if _is_text(field.annotation):
        return value
    try:
        (found,) = document.parse(value.encode(), Path(name))
    except (ConfigurationError, ValueError) as error:
        raise _wrong(name, f"not YAML: {error}", "write a list as [a, b]") from error
    return found.data


def _set(data: Any, place: Location, value: Any, name: str) -> Any:
    """Return data with a value at a place, without touching the original. Raises ConfigurationError."""
    if not place:
        return value
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise _wrong(name, "is below a value that has no keys")
    key = str(place[0])
    return {**data, key: _set(data.get(key), place[1:], value, name)}


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    return ((field.alias or name, field) for name, field in model.model_fields.items())


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model that a field holds, alone or as an alternative to nothing."""
    for kind in _kinds(field.annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _is_text(annotation: Any) -> bool:
    kinds = [kind for kind in _kinds(annotation) if kind is not types.NoneType]
    return all(kind in (str, Path) or _is_words(kind) for kind in kinds)


def _is_words(kind: Any) -> bool:
    return get_origin(kind) is Literal and all(isinstance(word, str) for word in get_args(kind))


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of a type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for kind in get_args(annotation):
            yield from _kinds(kind)
    else:
        yield annotation


def _words(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).upper()


def _wrong(name: str, message: str, hint: str = "") -> ConfigurationError:
    return ConfigurationError(Problem(f"environment variable {name} {message}", hint=hint))
