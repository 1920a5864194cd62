"""What `extauthz check` is asked: arguments, a CheckRequest, or lines of a batch become questions.

Each is read as an edge would have read it from Envoy, so that a question asked here and one
asked by Envoy are the same `Request`. Whatever arrives becomes a question or a sentence
that says why it is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from extauthz.errors import ConfigurationError, Problem, Refused
from extauthz.explain import Question, request_of
from extauthz.request import Request


def from_arguments(
    method: str, url: str, headers: Iterable[str], body: str | None, token: str | None, *, limit: int
) -> Request:
    """Read a request as it stands on the command line. Raises BadParameter and ConfigurationError."""
    pairs = [_header(text) for text in headers]
    if token is not None:
        pairs.append(("authorization", f"Bearer {token}"))
    return request_of(method, url, pairs, _content(body), limit=limit)


def from_check_request(file: Path, *, limit: int) -> Request | Refused:
    """Read a CheckRequest in protobuf's JSON form. Raises ConfigurationError."""
    from envoy.service.auth.v3 import external_auth_pb2
    from google.protobuf import json_format

    from extauthz.edge import check

    content = _file(file)
    try:
        message = json_format.Parse(content, external_auth_pb2.CheckRequest(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise ConfigurationError(Problem(f"not a CheckRequest in protobuf's JSON form: {error}", file)) from error
    try:
        return check.request_of(message, max_body_bytes=limit)
    except Refused as refused:
        return refused


def entry(line: bytes) -> dict[str, Any]:
    """Parse one line of a batch. Raises ValueError."""
    try:
        found = json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_not_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("a line must be a JSON object")  # noqa: TRY004  # one kind of error for a bad line
    return found


def from_entry(entry: Mapping[str, Any], *, limit: int) -> Question:
    """Read the question of one batch line; an absent member and `null` are the same. Raises ValueError."""
    user = _text(entry, "user")
    groups = _list(entry.get("groups"), "groups")
    if groups and user is None:
        raise ValueError("groups need a user")
    url = _text(entry, "url")
    if url is None:
        raise ValueError("url is missing")
    method = _text(entry, "method")
    request = request_of("GET" if method is None else method, url, _pairs(entry), _body(entry.get("body")), limit=limit)
    return Question(request, user, groups)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter(f"{text!r} is not 'name: value'", param_hint="--header")
    return name.strip(), value.strip()


def _content(body: str | None) -> bytes | None:
    if body is None:
        return None
    return _file(Path(body[1:])) if body.startswith("@") else body.encode(errors="surrogateescape")


def _pairs(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    headers = entry.get("headers") or {}
    if not isinstance(headers, dict):
        raise ValueError("headers must be an object")  # noqa: TRY004
    return [
        (name, value)
        for name, values in headers.items()
        for value in _list(values if isinstance(values, list) else [values], f"header {name!r}")
    ]


def _body(body: Any) -> bytes | None:
    if body is None:
        return None
    text = body if isinstance(body, str) else json.dumps(body)
    return text.encode(errors="surrogatepass")


def _text(entry: Mapping[str, Any], name: str) -> str | None:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text")
    return value


def _list(values: Any, name: str) -> tuple[str, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} must be text, or a list of texts")
    return tuple(values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a line must not name one member twice")
    return found


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(Problem(f"cannot be read: {why}", file)) from error
