"""A slow reading of a small policy, written from its meaning alone: who may pass with which request.

The oracle knows the routes by hand and shares no code with what it judges: it decodes a
path, encodes it again, takes no other spelling, and grants only what its own table of
rights holds. It may refuse more than the gateway; it never allows more.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from extauthz.request import Body
from extauthz.review import Attributes, NonResourceAttributes, Review
from extauthz.subject import Subject
from tests.cases import ALICE, BOB

RULES = """
- {name: health, match: {path: /healthz}, allow: public}
- {name: me, match: {methods: [GET], path: /me}, allow: authenticated}
- {name: closed, match: {path: "/me/{rest...}"}, deny: nobody}
- name: runs
  match: {methods: [GET], path: "/ns/{ns}/runs"}
  access: [{verb: list, resource: runs, namespace: ["path:ns", "query:namespace?"]}]
- name: run
  match: {methods: [GET, DELETE], path: "/ns/{ns}/runs/{id}"}
  access:
    - {verb: get, resource: runs, namespace: "path:ns", name: "path:id"}
    - {verb: get, resource: pods, subresource: log, namespace: "path:ns", ifPresent: "query:logs"}
- name: stop
  match: {methods: [POST], path: "/ns/{ns}/runs/{id}:stop"}
  access: [{verb: stop, resource: runs, namespace: "path:ns", name: "path:id"}]
- name: create
  match: {methods: [POST], path: /runs}
  access: [{verb: create, resource: runs, namespace: "body:/namespace"}]
- name: metrics
  match: {methods: [GET], path: /metrics}
  access: [{verb: get, path: /metrics}]
"""

Right = tuple[str, str, str, str]
"""Verb, resource with its subresource, or the path, namespace, name; an empty name is every name."""

RIGHTS: dict[str, set[Right]] = {
    ALICE: {
        ("list", "runs", "team-a", ""),
        ("get", "runs", "team-a", ""),
        ("get", "pods/log", "team-a", ""),
        ("create", "runs", "team-a", ""),
        ("stop", "runs", "team-a", "r1"),
        ("get", "/metrics", "", ""),
    },
    BOB: {("list", "runs", "team-b", ""), ("get", "runs", "team-b", ""), ("create", "runs", "team-b", "")},
}


def granted(user: str, right: Right) -> bool:
    return bool(RIGHTS.get(user, set()) & {right, (*right[:3], "")})


def right_of(attributes: Attributes) -> Right:
    """Return the right that a review asks for."""
    if isinstance(attributes, NonResourceAttributes):
        return attributes.verb, attributes.path, "", ""
    resource = "/".join(filter(None, (attributes.resource, attributes.subresource)))
    return attributes.verb, resource, attributes.namespace, attributes.name


class Table:
    """An authorizer that knows the table above, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Right]] = []

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        right = right_of(attributes)
        self.asked.append((subject.user, right))
        return Review(attributes, granted(subject.user, right), "a word of the authorizer's")


@dataclass(frozen=True)
class Asked:
    """One generated request."""

    user: str
    method: str
    path: str
    query: str
    body: Body


DELIMITERS = "!$&'()+,=@"
"""Characters that RFC 3986 section 3.3 lets stand in a segment as they are, and that mean nothing there."""


def decoded(path: str) -> list[str] | None:
    """Return the segments, decoded once, or None where they could be read in two ways.

    What is encoded must need it, or be a delimiter that means the same either way; nothing
    that has a meaning in a path may be encoded.
    """
    parts = [unquote(part, errors="replace") for part in path.split("/")[1:]]
    plain = all(
        part.isprintable() and part not in ("", ".", "..") and not set(part) & set("/;\\#?%*") for part in parts
    )
    as_they_are = re.sub("|".join(map(quote, DELIMITERS)), lambda found: unquote(found[0]), path, flags=re.IGNORECASE)
    again = "/" + "/".join(quote(part, safe=":" + DELIMITERS) for part in parts)
    return parts if plain and again == as_they_are else None


def is_stop(name: str) -> bool:
    """Whether a segment is a name and a verb; a verb behind nothing is a name."""
    return name.endswith(":stop") and name != ":stop"


def needed(asked: Asked) -> list[Right] | str | None:
    """Return the rights that a request takes, who may pass without any, or None where nobody may."""
    parts = decoded(asked.path)
    names = [name for name, _ in parse_qsl(asked.query, keep_blank_values=True)]
    query = dict(parse_qsl(asked.query, keep_blank_values=True))
    if parts is None:
        return None
    if len(names) != len(set(names)) or ";" in asked.query:
        return None
    reads = "GET" if asked.method == "HEAD" else asked.method
    match reads, parts:
        case _, ["healthz"] if reads in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            return "everybody"
        case "GET", ["me"]:
            return "users"
        case "GET", ["metrics"]:
            return [("get", "/metrics", "", "")]
        case "GET", ["ns", namespace, "runs"]:
            return [("list", "runs", namespace, "")] if query.get("namespace") in (None, "", namespace) else None
        case "GET" | "DELETE", ["ns", namespace, "runs", name] if not is_stop(name):
            logs: list[Right] = [("get", "pods/log", namespace, "")] if query.get("logs") else []
            return [("get", "runs", namespace, name), *logs]
        case "POST", ["ns", namespace, "runs", name] if is_stop(name):
            return [("stop", "runs", namespace, name.removesuffix(":stop"))]
        case "POST", ["runs"]:
            namespace = named_in(asked.body)
            return [("create", "runs", namespace, "")] if namespace else None
    return None


def named_in(body: Body) -> str:
    """Return the namespace of a body that every parser reads alike."""
    try:
        pairs = json.loads((body.content or b"").decode("utf-8"), object_pairs_hook=list)
    except (UnicodeDecodeError, ValueError):
        return ""
    if body.content is None or not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return ""
    found: list[Any] = [value for name, value in pairs if name.casefold() == "namespace"]
    exact = [name for name, _ in pairs if name == "namespace"]
    unique = len(found) == len(exact) == 1 and len({name for name, _ in pairs}) == len(pairs)
    return found[0] if unique and isinstance(found[0], str) else ""


def may_pass(asked: Asked) -> bool:
    rights = needed(asked)
    if rights == "everybody":
        return True
    if rights is None or not asked.user:
        return False
    return isinstance(rights, str) or all(granted(asked.user, right) for right in rights)
