"""How KFP's API server finds the RPC of an HTTP call: gorilla/mux before grpc-gateway, quirks included.

Measured behaviour: paths are decoded once and routed as decoded; unclean ones are answered
with 301; uploads and logs come before everything, whatever the method; the route
registered last is tried first; `:verb` is cut only where it is registered; a trailing slash
is an empty id; a POST of a form may be another method, or the GET of a path that knows no POST.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import yaml

from extauthz.request.spelling import camel_case
from tests.kubeflow.wire import Call, Wrong

_SURFACE = Path(__file__).parents[1] / "data" / "kfp-surface.yaml"
_FORM = "application/x-www-form-urlencoded"
_UPLOAD = re.compile(r"/apis/v[12]beta1/pipelines/(upload|upload_version)")
_LOG = re.compile(r"/apis/v1alpha1/runs/(?P<run_id>[^/]+)/nodes/(?P<node_id>[^/]+)/log")
_READ = re.compile(
    r"/apis/v[12]beta1/runs/(?P<run_id>[^/]+)/nodes/(?P<node_id>[^/]+)/artifacts/(?P<artifact_name>[^/]+):read"
)


@dataclass(frozen=True, slots=True)
class Rpc:
    """What an HTTP call became: `/package.Service/Method`, or the name of a plain handler, and its message."""

    name: str
    variables: Mapping[str, str]
    parameters: Mapping[str, str]
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    segments: tuple[str, ...]
    verb: str
    rpc: str

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        *_, last = segments
        if self.verb and not last.endswith(f":{self.verb}"):
            return None
        cut = [*segments[:-1], last.removesuffix(f":{self.verb}")] if self.verb else segments
        if len(cut) != len(self.segments):
            return None
        found: dict[str, str] = {}
        for pattern, segment in zip(self.segments, cut, strict=True):
            if pattern.startswith("{"):
                found[pattern[1:-1].rpartition(".")[2]] = segment
            elif pattern != segment:
                return None
        return found


def find(call: Call) -> Rpc:
    """Return the RPC that a call runs. Raises Wrong: 301 with the clean path as message, 400, 404, 501."""
    path = unquote(call.path)
    if (clean := _clean(path)) != path:
        raise Wrong(301, clean)
    if upload := _UPLOAD.fullmatch(path):
        return Rpc(upload[1], {}, _parameters(call.query), {})
    if log := _LOG.fullmatch(path):
        return Rpc("log", log.groupdict(), {}, {})
    if call.method == "GET" and (read := _READ.fullmatch(path)):
        return Rpc("read", read.groupdict(), {}, {})
    return _grpc(call, path)


def _grpc(call: Call, path: str) -> Rpc:
    is_form = call.method == "POST" and call.headers.get("content-type") == _FORM
    method = call.headers.get("x-http-method-override", "").upper() if is_form else ""
    method = method or call.method
    segments = path.split("/")[1:]
    matches = [(route, found) for route in _routes() if (found := route.match(segments)) is not None]
    for wanted in (method, "GET") if is_form and method == "POST" else (method,):
        for route, found in matches:
            if route.method == wanted:
                return _rpc(call, route, found, form=is_form)
    raise Wrong(501 if matches else 404, "Method Not Allowed" if matches else "Not Found")


def _rpc(call: Call, route: _Route, found: Mapping[str, str], *, form: bool) -> Rpc:
    if route.method in ("GET", "DELETE"):
        query = "&".join(filter(None, (call.query, call.body.decode() if form else "")))
        return Rpc(route.rpc, found, {**_parameters(query), **found}, {})
    return Rpc(route.rpc, found, _parameters(call.query), {**_message(call.body), **found})


def _parameters(query: str) -> dict[str, str]:
    """Read a query as the gateway does; where both spellings of a name are given, one wins at random."""
    if ";" in query:
        raise Wrong(400, "invalid semicolon separator in query")
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in found:
            raise Wrong(400, f"too many values for field {name}")
        found[name] = value
    return {snake(name): value for name, value in found.items()}


def _message(body: bytes) -> dict[str, Any]:
    """Read the first JSON value; what stands after it is not looked at."""
    if not body:
        return {}
    try:
        value, _ = json.JSONDecoder(object_pairs_hook=_fields).raw_decode(body.decode().lstrip())
    except ValueError as error:
        raise Wrong(400, f"proto: syntax error: {error}") from error
    if not isinstance(value, dict):
        raise Wrong(400, "proto: syntax error: unexpected token")
    return value


def _fields(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if snake(name) in found:
            raise Wrong(400, f'proto: duplicate field "{name}"')
        found[snake(name)] = value
    return found


def snake(name: str) -> str:
    """Return the proto name of a JSON field in either spelling."""
    spelled = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", name)
    return spelled if camel_case(spelled) == name else name


def _clean(path: str) -> str:
    clean = "/" + posixpath.normpath(path).lstrip("/")
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean


@cache
def _routes() -> tuple[_Route, ...]:
    """Return the routes of all RPCs, the last registered first."""
    surface = yaml.load(_SURFACE.read_text(), Loader=yaml.CSafeLoader)["endpoints"]
    served = [row for row in surface if row["surface"] in ("rest-v1beta1", "rest-v2beta1") and row["served"]]
    return tuple(_route(row) for row in reversed(served))


def _route(row: Mapping[str, Any]) -> _Route:
    path, colon, verb = row["path"].rpartition(":")
    segments = (path if colon else row["path"]).split("/")[1:]
    return _Route(row["method"], tuple(segments), verb if colon else "", row["rpc"])
