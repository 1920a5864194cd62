"""Requests in words, decided with the shipped policies over the demo's three tenants."""

from __future__ import annotations

import json
from typing import Any

from extauthz.decision import Decision
from extauthz.gateway import Gateway
from extauthz.request import EMPTY_BODY, Body, read
from extauthz.settings import ResponseSettings
from tests.cases import Named
from tests.policies.probe import Objects
from tests.policies.test_matrix import authorizer
from tests.policies.test_routes import shipped

ALICE, BOB, CAROL, DAVE, ERIN, MALLORY, ADMIN = (
    f"{name}@example.com" for name in ("alice", "bob", "carol", "dave", "erin", "mallory", "admin")
)
KFP = "/pipeline/apis/v2beta1"
V1 = "/pipeline/apis/v1beta1"
OBJECTS = Objects()
SHARED = "pipeline."
"""The id of a pipeline that belongs to nobody."""


def decide(
    who: str,
    method: str,
    target: str,
    body: Any = None,
    *,
    at: str = "gateway",
    host: str = "",
    headers: dict[str, str] | None = None,
    lookup: Objects = OBJECTS,
) -> Decision:
    """Decide a request of one user; an empty one is nobody."""
    gateway = Gateway(
        policy=shipped(at),
        authenticator=Named(who),
        authorizer=authorizer(),
        response=ResponseSettings(),
        lookup=lookup,
    )
    content = EMPTY_BODY if body is None else Body(json.dumps(body).encode())
    decision = gateway.decide(read(method=method, target=target, headers=headers or {}, host=host, body=content))
    assert isinstance(decision, Decision)
    return decision


def passes(who: str, method: str, target: str, body: Any = None, **rest: Any) -> bool:
    """Whether one user's request passes."""
    return decide(who, method, target, body, **rest).allowed
