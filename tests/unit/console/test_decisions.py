"""Which of the last decisions are shown."""

from __future__ import annotations

from typing import Any

import pytest

from extauthz.console.decisions import MAX_SHOWN, Filter, namespaces, newest, outcome, right
from extauthz.observe.audit.record import AuditRecord


def record(**members: Any) -> AuditRecord:
    """Return a record of a refusal."""
    found: dict[str, Any] = {
        "decision": "deny",
        "status": 403,
        "reason": "forbidden",
        "method": "GET",
        "target": "/runs?namespace=team-a",
        "requestID": "0f-1",
        "user": {"username": "Bob@example.com"},
        "rule": {"name": "runs", "file": "x.yaml", "line": 3},
        "reviews": [{"verb": "list", "resource": "runs", "namespace": "team-a", "allowed": False, "cached": False}],
        **members,
    }
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ({}, True),
        ({"q": "RUNS 0f-1"}, True),
        ({"q": "runs other"}, False),
        ({"outcome": "deny"}, True),
        ({"outcome": "shadow"}, False),
        ({"user": "bob"}, True),
        ({"user": "alice"}, False),
        ({"namespace": "team-a"}, True),
        ({"namespace": "team"}, False),
        ({"rule": "runs"}, True),
        ({"rule": "run"}, False),
        ({"unknown": "x", "q": " "}, True),
    ],
)
def test_filters(query: dict[str, str], taken: bool) -> None:
    """Words are searched for; a namespace and a rule are named in full."""
    assert Filter.of(query).takes(record()) is taken


def test_a_bare_record_passes_filters_that_ask_for_nothing() -> None:
    """A check that held no request has neither target nor user."""
    bare: Any = {"decision": "error", "status": 503, "reason": "internal_error"}
    assert Filter().takes(bare)
    assert not Filter(user="bob").takes(bare)
    assert not Filter(rule="runs").takes(bare)


def test_the_newest_come_first_and_not_too_many() -> None:
    """A page has a bounded length."""
    numbered = [(number, record()) for number in range(1, MAX_SHOWN + 10)]
    shown = newest(numbered, Filter())
    assert [number for number, _ in shown] == list(range(MAX_SHOWN + 9, 9, -1))


def test_what_a_record_says() -> None:
    """Its outcome, its namespaces, and its rights in words."""
    assert (outcome(record()), outcome(record(decision="allow", shadow=True))) == ("deny", "shadow")
    assert namespaces(record()) == ["team-a"]
    assert right({"verb": "get", "path": "/metrics", "allowed": True, "cached": False}) == "get /metrics"
    asked: Any = {"verb": "get", "group": "g", "resource": "pods", "subresource": "log", "name": "x"}
    assert right(asked) == "get pods.g/log x"
