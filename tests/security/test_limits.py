"""Limits: what just fits is taken, and one more is refused, by name and not by a failure.

Limits that only bound memory are tested where they are; so are those of single protocols.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from functools import partial
from inspect import iscoroutine
from typing import Any, cast

import pytest

from extauthz.edge import body
from extauthz.edge.native import unary
from extauthz.edge.native.requests import MAX_REPETITIONS, BadRequest, Http1Limits, RequestReader
from extauthz.errors import ConfigurationError, CredentialError, Refused
from extauthz.headers import MAX_GROUPS_HEADER_BYTES, IdentityHeaders
from extauthz.identity.claims import MAX_GROUPS, MAX_NAME_BYTES, subject_of
from extauthz.identity.session import MAX_PARTS, SessionAuthenticator
from extauthz.identity.token import read_token
from extauthz.identity.tokens import TokenAuthenticator
from extauthz.policy.body import MAX_DEPTH, document
from extauthz.policy.check import MAX_VALUE_LENGTH
from extauthz.policy.condition import MAX_OPERATIONS
from extauthz.request import Body, read
from extauthz.request.faults import MAX_PARAMETERS, MAX_SEGMENTS, MAX_TARGET_BYTES
from extauthz.settings import ResponseSettings
from extauthz.settings.identity import JwtIssuer, SessionSettings
from extauthz.subject import Subject
from tests.issuer import Issuer
from tests.unit.policy.build import ask, check, rule

LIMIT = 1000
"""That of sizes which settings choose."""
ISSUER = JwtIssuer.model_validate(
    {"issuer": "https://i.example", "audiences": ["a"], "keys": {"file": "k"}, "claims": {"groups": "groups"}}
)
HTTP1 = Http1Limits(max_headers=20, max_head_bytes=LIMIT)

Try = Callable[[int], str]
"""Tries something of a size; returns the reason code of the refusal, or nothing."""


def target(make: Callable[[int], str]) -> Try:
    """Return what reads a target."""
    return lambda size: "".join(fault for fault, _ in read(method="GET", target=make(size), headers={}).faults[:1])


def refusal(do: Callable[[int], object]) -> Try:
    """Return what does something and tells why not."""

    def attempt(size: int) -> str:
        try:
            done = do(size)
            if iscoroutine(done):
                done.close()
        except (CredentialError, Refused) as error:
            return str(error.reason)
        except unary.Unreadable as error:
            return error.status.name
        except BadRequest as error:
            return str(error.status)
        return ""

    return attempt


def nested(depth: int) -> object:
    """Read a body of so many objects and arrays inside each other."""
    content = b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    return document(read(method="POST", target="/", headers={}, body=Body(content)))


def shown(size: int) -> str:
    """Judge a body of so many bytes, where Envoy's buffer holds LIMIT: a full one may have been cut."""
    return body.shown(b"x" * size, {body.PARTIAL: "false"}, limit=LIMIT, length=None).problem


def message(size: int, *, packed: bool) -> bytes:
    """Read a gRPC message of so many bytes."""
    content = gzip.compress(bytes(size)) if packed else bytes(size)
    framed = bytes([packed]) + len(content).to_bytes(4, "big") + content
    return unary.message(framed, unary.GZIP, limit=LIMIT)


def claims(**members: Any) -> Subject:
    """Return the subject of verified claims."""
    return subject_of({"sub": "alice", "exp": 1, **members}, ISSUER)


def session(parts: int) -> object:
    """Send a session in so many cookies."""
    settings = SessionSettings(url="http://o.example/oauth2/auth")
    authenticator = SessionAuthenticator(settings, cast("TokenAuthenticator", None), max_bytes=1, clock=float)
    cookies = "; ".join(f"_oauth2_proxy_{number}=x" for number in range(parts))
    return authenticator.authenticate(read(method="GET", target="/", headers={"cookie": cookies}))


def head(lines: list[bytes]) -> None:
    """Read an HTTP/1.1 request with these header lines beside its host."""
    RequestReader(HTTP1, LIMIT).feed(b"\r\n".join([b"GET / HTTP/1.1", b"host: x", *lines, b"", b""]))


def condition(operations: int) -> str:
    """Load a rule whose condition has so many operations, names and values."""
    # A comparison of a list's size with a number: five, and each further element.
    text = f"size([{','.join('1' * (operations - 4))}]) == 3"
    try:
        rule(check(), when=text)
    except ConfigurationError as error:
        return "operations" if "operations" in str(error) else str(error)
    return ""


def named(length: int) -> object:
    """Ask for a right on an object with a name of so many characters."""
    return rule(check(name="query:name")).asked(ask(f"/x?name={'a' * length}"), None)


LIMITS: Mapping[str, tuple[Try, int, str]] = {
    "bytes of a target": (target(lambda size: "/" + "a" * (size - 1)), MAX_TARGET_BYTES, "target_too_long"),
    "bytes of a query": (target(lambda size: "/?" + "a" * (size - 2)), MAX_TARGET_BYTES, "target_too_long"),
    "segments": (target(lambda size: "/a" * size), MAX_SEGMENTS, "target_too_long"),
    "parameters": (
        target(lambda size: "/?" + "&".join(f"a{number}" for number in range(size))),
        MAX_PARAMETERS,
        "query_too_many",
    ),
    "depth of a body": (refusal(nested), MAX_DEPTH, "body_too_deep"),
    "bytes of a body": (shown, LIMIT - 1, "body_truncated"),
    "bytes of a compressed message": (refusal(partial(message, packed=True)), LIMIT, "RESOURCE_EXHAUSTED"),
    "bytes of a token": (
        refusal(lambda size: read_token("x", Issuer().token() if size == LIMIT else "a" * size, max_bytes=LIMIT)),
        LIMIT,
        "token_too_large",
    ),
    "groups": (refusal(lambda size: claims(groups=["g"] * size)), MAX_GROUPS, "claim_invalid"),
    "bytes of a user": (refusal(lambda size: claims(sub="u" * size)), MAX_NAME_BYTES, "claim_invalid"),
    "bytes of a group": (refusal(lambda size: claims(groups=["g" * size])), MAX_NAME_BYTES, "claim_invalid"),
    "cookies of a session": (refusal(session), MAX_PARTS, "credential_ambiguous"),
    "headers": (
        refusal(lambda size: head([b"x-%d: y" % number for number in range(size - 1)])),
        HTTP1.max_headers,
        "431",
    ),
    "repetitions": (refusal(lambda size: head([b"x: y"] * (size + 1))), MAX_REPETITIONS, "431"),
    "characters of a value": (refusal(named), MAX_VALUE_LENGTH, "value_too_long"),
    "operations of a condition": (condition, MAX_OPERATIONS, "operations"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_what_just_fits_is_taken_and_one_more_is_not(what: str) -> None:
    """Each limit is where it is said to be."""
    attempt, limit, reason = LIMITS[what]
    assert attempt(limit) == ""
    assert attempt(limit + 1) == reason
    assert attempt(limit * 2) == reason


def test_groups_that_no_header_can_hold_are_not_told() -> None:
    """The upstream then gets none instead of a part of them, and none of the client's."""
    headers = IdentityHeaders(ResponseSettings())
    groups = ["g" * 1023] * 7 + ["g" * 1024]
    assert len(",".join(groups)) == MAX_GROUPS_HEADER_BYTES
    for last, told in (("", True), ("x", False)):
        subject = Subject("alice", (*groups[:-1], groups[-1] + last))
        set_, removed = headers.of(subject, {})
        assert ("kubeflow-groups" in dict(set_)) is told
        assert ("kubeflow-groups" in removed) is not told


def test_a_pattern_that_backtracks_elsewhere_takes_linear_time() -> None:
    """Those of conditions are RE2's, as those of `require` are: with another library this would never end."""
    evil = "a" * MAX_VALUE_LENGTH
    conditional = rule(check(), when='request.query.q.matches("^(a+)+$")')
    assert conditional.permits(ask(f"/x?q={evil}"), None)
