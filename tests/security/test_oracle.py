"""No allow without a matching review: the gateway against the oracle."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extauthz.gateway import Gateway
from extauthz.request import Body, read
from tests.cases import ALICE, BOB, Named, decided, gateway, policy_of
from tests.security.oracle import RULES, Asked, Table, may_pass, needed

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
