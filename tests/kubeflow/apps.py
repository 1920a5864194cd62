"""The web apps behind the ingress gateway, each reading paths as its framework was measured to.

Routes and the places of namespaces come from the reference files, so no route is missing.
Like the real ones they differ in what they fold: express ignores case, a trailing slash and
doubled slashes, and decodes parameters; WSGI apps decode the whole path before they route;
Go apps route on the decoded path, and Katib does not look at the method.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import yaml

from tests.kubeflow.wire import Answer, Call, answer, text

_DATA = Path(__file__).parents[1] / "data"
_ANY = ("ANY", "-")
_EXPRESS = ("centraldashboard", "static-assets")
_WSGI = ("jupyter-web-app", "volumes-web-app", "tensorboards-web-app", "kserve-models-web-app")
_NOT_AT_THE_GATEWAY = ("kubeflow-pipelines", "serving-host", "serving-internal", "user-published")
_REST = ("{static...}", "{rest...}")
_DECODED_TWICE = ("/pipeline/k8s/pod", "/pipeline/k8s/pod/events")


@dataclass(frozen=True, slots=True)
class Route:
    """One route of one app."""

    app: str
    methods: tuple[str, ...]
    path: str
    namespace: str
    """Where the app reads the namespace: `path:{ns}`, `query:name`, `body:a.b`, or something else for nowhere."""
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Served:
    """What an app did for a call: the route that ran, and the namespace that it touched."""

    app: str
    route: str
    namespace: str


def serve(call: Call) -> tuple[Served | None, Answer]:
    """Run a call; a page or a 404 serves nothing."""
    for route in _routes():
        if found := _matches(route, call):
            served = Served(route.app, route.path, _namespace(route, call, found.groupdict()))
            return served, answer({"app": served.app, "route": served.route, "namespace": served.namespace})
    if re.match(r"/api/", call.path, re.IGNORECASE):
        return None, answer({"error": "not found"}, 404)
    return None, text("<!doctype html><title>Kubeflow</title>", content_type="text/html")


def _matches(route: Route, call: Call) -> re.Match[str] | None:
    method = "GET" if call.method == "HEAD" and route.app != "katib-ui" else call.method
    if method not in route.methods and route.methods[0] not in _ANY:
        return None
    return route.pattern.fullmatch(_READ.get(route.app, unquote)(call.path))


def _express(path: str) -> str:
    return re.sub(r"/+", "/", path).rstrip("/") or "/"


def _wsgi(path: str) -> str:
    """Decode everything, then route; slashes directly behind the rewritten prefix do not count."""
    return re.sub(r"^(/[^/]+)/+", r"\1/", unquote(path))


_READ: Mapping[str, Callable[[str], str]] = {
    **dict.fromkeys((*_EXPRESS, "ml-pipeline-ui"), _express),
    **dict.fromkeys(_WSGI, _wsgi),
}


def _namespace(route: Route, call: Call, variables: Mapping[str, str | None]) -> str:
    where, _, name = route.namespace.partition(":")
    if where == "path":
        return unquote(variables.get("ns") or "") if route.app in _EXPRESS else variables.get("ns") or ""
    if where == "query":
        first = parse_qs(call.query).get(name.split(" ")[0], [""])[0]
        return unquote(first) if route.path in _DECODED_TWICE else first
    if where == "body":
        return _member(call.body, name.split("."))
    return ""


def _member(body: bytes, names: Iterable[str]) -> str:
    value: Any = json.loads(body or b"{}")
    for name in names:
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, str) else ""


@cache
def _routes() -> tuple[Route, ...]:
    """Return all routes, those with most fixed text first."""
    found = [*_platform(), *_pipelines_ui()]
    return tuple(sorted(found, key=lambda route: -len(re.sub(r"\{[^}]*\}|\*", "", route.path))))


def _platform() -> Iterator[Route]:
    for row in _rows("kubeflow-platform.yaml", "routes"):
        if row["app"] in _NOT_AT_THE_GATEWAY or not row["path"].startswith("/"):
            continue
        for path in re.split(r"\|(?![^{]*\})", row["path"]):
            if not path.endswith(_REST) or (row["method"] == "ANY" and row["decision"] != "deny"):
                yield _route(row["app"], row["method"], path, row["namespace_from"])


def _pipelines_ui() -> Iterator[Route]:
    for row in _rows("kfp-surface.yaml", "endpoints"):
        path = row["gateway_path"]
        if row["surface"] in ("ui", "mlmd") and path and "/apis/" not in path and "{static}" not in path:
            yield _route("ml-pipeline-ui", row["method"], path, row["namespace_from"])


def _route(app: str, method: str, path: str, namespace: str) -> Route:
    flags = re.IGNORECASE if app in (*_EXPRESS, "ml-pipeline-ui") else re.NOFLAG
    template = path.partition("?")[0]
    pattern = "".join(map(_piece, re.split(r"(\{[^}]*\}|\*)", template)))
    return Route(app, tuple(method.split("|")), path, namespace, re.compile(pattern, flags | re.DOTALL))


def _piece(piece: str) -> str:
    if piece == "*" or piece.endswith("...}"):
        return ".*"
    if not piece.startswith("{"):
        return re.escape(piece)
    name = piece[1:-1]
    return f"(?:{name})" if "|" in name else f"(?P<{re.sub(r'[^a-z_]', '_', name)}>[^/]+)"


def _rows(file: str, key: str) -> Any:
    return yaml.load((_DATA / file).read_text(), Loader=yaml.CSafeLoader)[key]
