"""Records of decisions that a gateway made."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from extauthz.cli.schema import Kind, render
from extauthz.decision import Decision
from extauthz.gateway import Gateway
from extauthz.observe.audit import form
from extauthz.observe.audit.log import AuditLog
from extauthz.observe.audit.recent import RecentDecisions
from extauthz.request import Request
from tests.cases import decided

VALIDATOR = jsonschema.Draft202012Validator(json.loads(render(Kind.AUDIT)))


def as_read(line: bytes) -> dict[str, Any]:
    """Read a line as whoever collects it does; it must be one line and fit the published schema."""
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    found: dict[str, Any] = json.loads(line)
    VALIDATOR.validate(found)
    return found


def told(gateway: Gateway, request: Request | None, decision: Decision, **options: Any) -> dict[str, Any]:
    """Return what the audit log tells of a decision."""
    recent = RecentDecisions()
    AuditLog(gateway, writer=None, recent=recent, **options).observe(request, decision, 0.00012345)
    ((_, record),) = recent.since()
    return as_read(form.encode(record))


def recorded(gateway: Gateway, request: Request, **options: Any) -> dict[str, Any]:
    """Decide a request and return what the audit log tells of it."""
    return told(gateway, request, decided(gateway.decide(request)), **options)
