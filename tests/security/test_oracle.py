"""No allow without a matching review: the gateway against a slow reading of the rules, written from the design alone.

The oracle knows the routes by hand and shares no code with what it judges: it decodes a
path, encodes it again, takes no other spelling, and grants only what its own table of
rights holds. It may refuse more than the gateway; it never allows more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extauthz.gateway import Gateway
from extauthz.request import Body, read
from extauthz.review import Attributes, NonResourceAttributes, Review
from extauthz.subject import Subject
from tests.cases import ALICE, BOB, Named, decided, gateway, policy_of

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


class Table:
    """An authorizer that knows the table above, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Right]] = []

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        if isinstance(attributes, NonResourceAttributes):
            right = (attributes.verb, attributes.path, "", "")
        else:
            resource = "/".join(filter(None, (attributes.resource, attributes.subresource)))
            right = (attributes.verb, resource, attributes.namespace, attributes.name)
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


def decoded(path: str) -> list[str] | None:
    """Return the segments, decoded once, or None where they could be read in two ways.

    What is encoded must need it, and nothing that has a meaning in a path may be encoded.
    """
    parts = [unquote(part, errors="replace") for part in path.split("/")[1:]]
    plain = all(
        part.isprintable() and part not in ("", ".", "..") and not set(part) & set("/;\\#?%*") for part in parts
    )
    return parts if plain and "/" + "/".join(quote(part, safe=":") for part in parts) == path else None


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


SEGMENTS = ["ns", "team-a", "team-b", "runs", "r1", "r1:stop", "r2:stop", "me", "healthz", "metrics"]
ODD = [
    "",
    ".",
    "..",
    "%2e%2e",
    "team%2da",
    "team-a%2Fx",
    "TEAM-A",
    "r1;x",
    "r1%3Astop",
    "%00",
    "*",
    "r1%20",
    "é",
    ":stop",
]
LIKELY_PATHS = ["/me", "/healthz", "/metrics", "/runs", "/ns/team-a/runs", "/ns/team-b/runs", "/ns/team-a/runs/r1"]
LIKELY_PATHS += ["/ns/team-a/runs/r1:stop", "/ns/team-a/runs/r2:stop", "/ns/team-a/runs/a:b"]
ALMOST_PATHS = st.builds(
    lambda path, index, odd: "/".join(odd if at == index else part for at, part in enumerate(path.split("/"))),
    st.sampled_from(LIKELY_PATHS),
    st.integers(1, 4),
    st.sampled_from(ODD),
)
SEGMENTS_AT_RANDOM = st.lists(st.sampled_from([*SEGMENTS, *ODD]), max_size=5).map(lambda parts: "/" + "/".join(parts))
PATHS = st.sampled_from(LIKELY_PATHS) | ALMOST_PATHS | SEGMENTS_AT_RANDOM
PAIRS = [
    "namespace=team-a",
    "namespace=team-b",
    "namespace=",
    "Namespace=team-b",
    "logs=1",
    "logs=",
    "x=1",
    "name%73pace=team-b",
]
QUERIES = st.lists(st.sampled_from([*PAIRS, "", ";namespace=team-b", "logs=%31"]), max_size=3).map("&".join)
TEXTS = [
    b'{"namespace":"team-a"}',
    b'{"namespace":"team-b"}',
    b'{"namespace":"team-a","namespace":"team-b"}',
    b'{"namespace":"team-a","Namespace":"team-b"}',
    b'{"NAMESPACE":"team-a"}',
    b'{"name\\u0073pace":"team-b"}',
    b'{"namespace":"team-a"}{"namespace":"team-b"}',
    b'\xef\xbb\xbf{"namespace":"team-a"}',
    b'{"namespace":["team-a"]}',
    b'{"namespace":"team-a","x":"\xff"}',
    b'{"namespace":"*"}',
    b'{"x":{"namespace":"team-a"}}',
    b"[]",
    b"",
]
BODIES = st.sampled_from([Body(text) for text in TEXTS]) | st.just(Body(None, "body_truncated"))
METHODS = st.sampled_from(["GET", "POST", "DELETE"]) | st.sampled_from(["HEAD", "PUT", "OPTIONS", "get", "TRACE", ""])
USERS = st.sampled_from([ALICE, BOB])
REQUESTS = (
    st.builds(Asked, USERS | st.just(""), METHODS, PATHS, QUERIES, BODIES)
    | st.builds(Asked, USERS, st.just("GET"), PATHS, st.just(""), st.just(Body()))
    | st.builds(Asked, USERS, st.just("POST"), st.just("/runs"), st.just(""), BODIES)
)


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    return gateway(policy=policy_of(tmp_path_factory.mktemp("policy"), RULES), authorizer=Table())


@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(REQUESTS)
def test_nobody_passes_whom_the_oracle_refuses(guard: Gateway, asked: Asked) -> None:
    """One gateway decides all of them, so that whatever it remembers must be right for the next one, too."""
    table = guard.authorizer = Table()
    guard.authenticator = Named(asked.user)
    target = f"{asked.path}?{asked.query}" if asked.query else asked.path
    decision = decided(guard.decide(read(method=asked.method, target=target, headers={}, body=asked.body)))
    assert all(user == asked.user for user, _ in table.asked)
    if decision.allowed:
        assert may_pass(asked)
        rights = needed(asked)
        assert {right for _, right in table.asked} == (set(rights) if isinstance(rights, list) else set())


@pytest.mark.parametrize(
    ("asked", "passes"),
    [
        (Asked(ALICE, "GET", "/ns/team-a/runs", "", Body()), True),
        (Asked(ALICE, "HEAD", "/ns/team-a/runs", "namespace=team-a", Body()), True),
        (Asked(ALICE, "DELETE", "/ns/team-a/runs/r1", "logs=1", Body()), True),
        (Asked(ALICE, "POST", "/ns/team-a/runs/r1:stop", "", Body()), True),
        (Asked(ALICE, "POST", "/ns/team-a/runs/r2:stop", "", Body()), False),
        (Asked(BOB, "GET", "/ns/team-b/runs/r1", "", Body()), True),
        (Asked(BOB, "GET", "/ns/team-b/runs/r1", "logs=1", Body()), False),
        (Asked(ALICE, "POST", "/runs", "", Body(TEXTS[0])), True),
        (Asked(ALICE, "POST", "/runs", "", Body(TEXTS[1])), False),
        (Asked("", "GET", "/healthz", "", Body()), True),
        (Asked("", "GET", "/me", "", Body()), False),
        (Asked(ALICE, "GET", "/metrics", "", Body()), True),
    ],
)
def test_the_oracle_and_the_gateway_agree_on_ordinary_requests(guard: Gateway, asked: Asked, passes: bool) -> None:
    """So neither of the two refuses everything."""
    guard.authorizer, guard.authenticator = Table(), Named(asked.user)
    target = f"{asked.path}?{asked.query}" if asked.query else asked.path
    decision = decided(guard.decide(read(method=asked.method, target=target, headers={}, body=asked.body)))
    assert may_pass(asked) is passes
    assert decision.allowed is passes
