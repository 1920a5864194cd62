"""From a row of the reference to a request in one tenant's name, and to the rights that it must ask for."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from extauthz.found import Found
from extauthz.lookup.artifact import namespace_of_key
from extauthz.request import Body, Request, read
from extauthz.review import ResourceAttributes
from tests.policies.reference import Right, Row

ANY = ("GET", "POST", "DELETE")
_SEGMENT = re.compile(r"([^.\[\]]+)(?:\[([^\]]*==[^\]]*)\])?(?:\[([-*0-9]+)\])?")


class Objects:
    """Every object: its id tells its kind and its namespace, and so does its name."""

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002
        if kind == "artifact_key":
            owner = namespace_of_key(id)
            return Found(owner) if owner else None
        if kind == "unscoped_list":
            return Found("") if id == "pipelines" else None
        told, _, namespace = id.partition(".")
        return Found(namespace, name_of(kind, namespace)) if told == kind else None


def name_of(kind: str, namespace: str) -> str:
    """The name of the one object of a kind in a namespace."""
    return f"the {kind} of {namespace}"


@dataclass(frozen=True)
class Probe:
    """A request for a row at a placement; `asks` are the rights, without the API version."""

    row: Row
    placement: str
    request: Request
    asks: frozenset[ResourceAttributes]

    def __str__(self) -> str:
        return f"{self.row.key} at {self.placement} as {self.request.method} {self.request.path}"


def probes(row: Row, namespace: str) -> Iterator[Probe]:
    """Yield a request for each placement and method of a row, all about one namespace."""
    for placement, path in row.places():
        for method in ANY if row.method == "ANY" else (row.method,):
            yield _probe(row, placement, path, method, namespace)


def _probe(row: Row, placement: str, path: str, method: str, namespace: str, **overrides: str) -> Probe:
    values = _Values(namespace)
    for right in row.rights:
        values.at(right.namespace)
        values.at(right.name, named=True)
    for place in row.agree:
        values.at(place)
    for location, value in row.given.items():
        values.put(location, value.replace("$tenant", namespace))
    for location, value in overrides.items():
        values.put(location, value)
    asks = frozenset(values.attributes(right) for right in row.rights)
    return Probe(row, placement, values.request(method, path), asks)


def with_value(probe: Probe, namespace: str, location: str, value: str) -> Request:
    """Return the request of a probe with one more value."""
    path = next(path for placement, path in probe.row.places() if placement == probe.placement)
    return _probe(probe.row, probe.placement, path, probe.request.method, namespace, **{location: value}).request


class _Values:
    """What a request says, collected by location, and what the locations of rights come to."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.path: dict[str, str] = {}
        self.query: dict[str, str] = {}
        self.body: dict[str, Any] = {}
        self.host = ""

    def at(self, location: str, *, named: bool = False) -> None:
        """Put the namespace, or the id of an object in it, or a name, where a location says."""
        kind, _, rest = location.partition(":")
        if kind == "lookup":
            kind, _, rest = rest.partition(":")
            self.put(rest, self._identifier(kind.partition(".")[0]))
        elif kind in ("path", "query", "body"):
            self.put(location, "thing" if named else self.namespace)
        elif kind == "host":
            self.host = f"thing.{self.namespace}.example.com"

    def put(self, location: str, value: str) -> None:
        """Put a value where a location says."""
        kind, _, place = location.partition(":")
        if kind == "path":
            self.path[place.strip("{}")] = value
        elif kind == "query":
            self.query[place.removesuffix("[*]")] = value
        elif kind == "host":
            self.host = value
        else:
            _set(self.body, place, value)

    def attributes(self, right: Right) -> ResourceAttributes:
        """Return what a right comes to."""
        return ResourceAttributes(
            verb=right.verb,
            group=right.group,
            resource=right.resource,
            subresource=right.subresource,
            namespace=self._told(right.namespace, self.namespace),
            name=self._name(right.name),
        )

    def request(self, method: str, path: str) -> Request:
        """Return the request."""
        whole = re.sub(r"\{([^{}]*)\}|\*", lambda found: self._segment(found[1] or "*"), path)
        target, _, fixed = whole.partition("?")
        query = "&".join(filter(None, (fixed, urlencode(self.query))))
        headers = {"content-type": "application/json"}
        content = json.dumps(self.body).encode() if self.body else b""
        return read(
            method=method,
            target=f"{target}?{query}" if query else target,
            headers=headers,
            host=self.host,
            body=Body(content),
        )

    def _segment(self, variable: str) -> str:
        name = variable.removesuffix("...")
        for key in (name, variable):
            if key in self.path:
                return quote(self.path[key], safe="/:")
        return self.namespace if name in ("ns", "namespace", "namespaceFilter") else "x"

    def _identifier(self, kind: str) -> str:
        if kind == "artifact_key":
            return f"private-artifacts/{self.namespace}/v2/artifacts/p/x"
        if kind == "signed_token":
            payload = json.dumps({"namespace": self.namespace, "viewerName": "v"}).encode()
            return base64.urlsafe_b64encode(payload).decode().rstrip("=") + ".c2lnbmF0dXJl"
        return f"{kind}.{self.namespace}"

    def _told(self, location: str, value: str) -> str:
        if location.startswith("const:"):
            return location.removeprefix("const:")
        return value if location else ""

    def _name(self, location: str) -> str:
        kind, _, rest = location.partition(":")
        if kind == "lookup":
            told = rest.partition(".")[0]
            # What a version is reviewed by is the name of its pipeline.
            return name_of(told, self.namespace)
        return self._told(location, "thing")


def _set(body: dict[str, Any], place: str, value: str) -> None:
    *parents, (last, _, _) = [found.groups() for found in _SEGMENT.finditer(place)]
    for name, conditions, index in parents:
        body = body.setdefault(name, {}) if index is None else _element(body.setdefault(name, []), conditions)
    body[last] = value


def _element(items: list[dict[str, Any]], conditions: str | None) -> dict[str, Any]:
    """Return the element that fits the conditions, made where there is none."""
    wanted: dict[str, Any] = {}
    for condition in filter(None, (conditions or "").split(",")):
        name, _, value = condition.partition("==")
        _set(wanted, name, value)
    for item in items:
        if all(_fits(item, name, value) for name, value in wanted.items()):
            return item
    items.append(wanted)
    return wanted


def _fits(item: Any, name: str, value: Any) -> bool:
    if isinstance(value, dict):
        return name in item and all(_fits(item[name], inner, text) for inner, text in value.items())
    return bool(item.get(name) == value)
