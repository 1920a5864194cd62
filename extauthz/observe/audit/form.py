"""From a decision to its audit record, and to the one line that is written of it.

Promises: no secret is in it, and a line is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from extauthz.decision import Decision, Outcome, Reason
from extauthz.observe.audit.mask import MASK, Mask
from extauthz.observe.audit.record import AuditRecord, ReviewRecord, UserRecord, ValueRecord
from extauthz.request import Request
from extauthz.review import NonResourceAttributes, Review
from extauthz.subject import Subject

MAX_TARGET = 4096
"""The most characters of a target that are kept."""
MAX_LINE_BYTES = 16 * 1024
"""Container runtimes break longer lines."""

_CORE = frozenset({"kind", "apiVersion", "auditID", "timestamp", "decision", "status", "reason", "truncated"})
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*", re.DOTALL)

RecordT = TypeVar("RecordT", bound=Mapping[str, Any])


def build(
    request: Request | None,
    decision: Decision,
    *,
    seconds: float,
    values: Mapping[str, str | None],
    mask: Mask,
) -> AuditRecord:
    """Return the record of a decision; `values` are what sources read, None where the request has nothing."""
    record: AuditRecord = {
        "kind": "Decision",
        "apiVersion": "audit.extauthz.dev/v1",
        "auditID": str(uuid4()),
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "decision": Outcome(decision.outcome).value,
        "status": decision.status,
        "reason": str(decision.reason),
        "message": mask.text(decision.message),
        "latencySeconds": round(seconds, 6),
    }
    if request is not None:
        _add_request(record, request, mask)
    if decision.subject:
        record["user"] = _user(decision.subject, mask)
        record["authenticator"] = decision.subject.authenticator
    if decision.reason == Reason.SHADOW:
        record["shadow"] = True
    if decision.rule:
        record["rule"] = {"name": decision.rule.name, "file": decision.rule.file, "line": decision.rule.line}
    record["values"] = [_value(source, value, mask) for source, value in values.items()]
    record["reviews"] = [_review(review, mask) for review in decision.reviews]
    return _full(record)


def encode(record: AuditRecord) -> bytes:
    """Return a record as one line of ASCII, which no terminal or collector can misread."""
    whole: dict[str, Any] = dict(record)
    line = _dump(whole)
    while len(line) >= MAX_LINE_BYTES:
        longest = max(whole.keys() - _CORE, key=lambda member: len(_dump(whole[member])))
        del whole[longest]
        whole["truncated"] = sorted({*whole.get("truncated", ()), longest})
        line = _dump(whole)
    return line.encode() + b"\n"


def _add_request(record: AuditRecord, request: Request, mask: Mask) -> None:
    trace = _TRACE.fullmatch(request.headers.get("traceparent", ""))
    record["requestID"] = request.id
    record["traceID"] = trace[1] if trace else ""
    record["method"] = request.method
    record["host"] = mask.host(request.host)
    record["target"] = mask.target(request.target[:MAX_TARGET])
    record["peer"] = request.peer
    if len(request.target) > MAX_TARGET:
        record["truncated"] = ["target"]


def _user(subject: Subject, mask: Mask) -> UserRecord:
    extra = {name: [MASK] if mask.is_named(name) else list(values) for name, values in subject.extra}
    user: UserRecord = {"username": subject.user, "groups": list(subject.groups), "uid": subject.uid, "extra": extra}
    return _full(user)


def _value(source: str, value: str | None, mask: Mask) -> ValueRecord:
    return {"source": source} if value is None else {"source": source, "value": mask.value(source, value)}


def _review(review: Review, mask: Mask) -> ReviewRecord:
    asked = review.attributes
    answer: ReviewRecord = {
        "verb": asked.verb,
        "allowed": review.allowed,
        "cached": review.cached,
        "reason": review.reason,
    }
    if isinstance(asked, NonResourceAttributes):
        answer["path"] = mask.text(asked.path)
        return _full(answer)
    answer["group"], answer["version"] = asked.group, asked.version
    answer["resource"], answer["subresource"] = asked.resource, asked.subresource
    answer["namespace"], answer["name"] = asked.namespace, mask.text(asked.name)
    return _full(answer)


def _full(record: RecordT) -> RecordT:
    """Leave out what is empty; false and zero are not."""
    return {member: value for member, value in record.items() if value not in ("", [], {})}  # type: ignore[return-value]


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
