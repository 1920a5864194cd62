"""One decision with its grounds: what `extauthz check` and the console show.

The gateway that serves decides, or one with the same parts; only who asks may be given
instead of proven. A question asked here and one asked by Envoy are the same `Request`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any

from extauthz.decision import Decision, failed
from extauthz.edge.asked import joined
from extauthz.edge.body import PARTIAL, shown
from extauthz.errors import Refused
from extauthz.gateway import Gateway
from extauthz.policy import Missing
from extauthz.request import Request, read
from extauthz.subject import Subject

_ABSOLUTE = re.compile(r"https?://(?:[^/?#]*@)?([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and who asks.

    `request` is the refusal where a CheckRequest holds no HTTP request. `user` is a name to
    believe, empty for nobody, or None for whomever the request's own headers prove.
    """

    request: Request | Refused
    user: str | None = None
    groups: tuple[str, ...] = ()


class Believed:
    """An authenticator for one named user; an empty name is nobody. `by` says who names him."""

    def __init__(self, user: str, groups: tuple[str, ...], *, by: str = "command line") -> None:
        self._subject = Subject.authenticated(user, groups, authenticator=by) if user else None

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        """Return the named subject, whatever the request says."""
        return self._subject


def request_of(
    method: str, url: str, headers: Iterable[tuple[str, str]], content: bytes | None, *, limit: int
) -> Request:
    """Read a request as a person gives it: `url` may be a whole one, `content` is None where nothing is said of it."""
    fields = joined(headers)
    host = fields.get("host", fields.get(":authority", ""))
    if whole := _ABSOLUTE.fullmatch(url):
        host, url = whole[1], whole[2] if whole[2].startswith("/") else f"/{whole[2]}"
    # Where nothing else is said, the body is what Envoy would have shown: all of it, below the limit.
    marks = fields if content is None else {PARTIAL: "false", **fields}
    content = content or b""
    length = fields.get("content-length", str(len(content)))
    body = shown(content, marks, limit=limit, length=length)
    return read(method=method, target=url, headers=fields, host=host, body=body)


async def decided(gateway: Gateway, question: Question) -> Decision:
    """Decide a question. Never raises."""
    if isinstance(question.request, Refused):
        return failed(question.request)
    decision = gateway.decide(question.request)
    return decision if isinstance(decision, Decision) else await decision


def explained(gateway: Gateway, question: Question, decision: Decision) -> dict[str, Any]:
    """Return the decision's JSON form with the canonical request and what each source read."""
    asked = question.request
    if isinstance(asked, Refused):
        return decision.as_json()
    request = {
        "method": asked.method,
        "path": asked.path,
        "query": dict(asked.parameters),
        "faults": [fault.value for fault, _ in asked.faults],
    }
    return {**decision.as_json(), "request": request, "values": _values(gateway, asked, decision)}


def _values(gateway: Gateway, request: Request, decision: Decision) -> list[dict[str, str | None]]:
    rule = gateway.policy.find(request)
    # What is refused for its form is not read by the gateway, so nor is it here.
    if isinstance(rule, Missing) or rule.fault(request):
        return []
    return gateway.values(rule, request, decision.subject)
