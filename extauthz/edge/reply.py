"""How a refusal is told: a page for a browser, a Kubernetes Status for a client, plain text for gRPC.

Nothing of another tenant is in it, everything is escaped, and nothing may cache it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

import orjson

from extauthz.decision import Decision, Reason
from extauthz.request import Request

_REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 503: "ServiceUnavailable"}
_TITLES = {400: "Request not understood", 401: "Not logged in", 403: "No access", 503: "Try again shortly"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_INVALID = 'Bearer realm="extauthz", error="invalid_token"'
_ABSENT = 'Bearer realm="extauthz"'


@dataclass(frozen=True, slots=True)
class Reply:
    """A refusal as the client gets it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def refusal(decision: Decision, request: Request | None) -> Reply:
    """Return the reply to a request that does not pass: to the login page for a browser that navigates."""
    login = decision.login if request is not None and decision.login and _is_navigation(request) else ""
    kind, body = _body(decision, request)
    headers = [
        ("content-type", kind),
        ("cache-control", "no-store"),
        ("vary", "authorization, cookie, accept"),
        ("x-content-type-options", "nosniff"),
    ]
    if kind.startswith("text/html"):
        headers.append(("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"))
    if decision.status == 401 and not login:
        # RFC 6750 section 3: no error code where no token was sent.
        challenge = _ABSENT if decision.reason == Reason.NO_CREDENTIAL else _INVALID
        headers.append(("www-authenticate", challenge))
    headers += (("set-cookie", cookie) for cookie in decision.cookies)
    if login:
        return Reply(302, (*headers, ("location", login)), b"")
    if decision.retry_after:
        headers.append(("retry-after", str(decision.retry_after)))
    return Reply(decision.status, tuple(headers), body)


def _body(decision: Decision, request: Request | None) -> tuple[str, bytes]:
    message = _one_line(decision.message)
    if request is None:
        return "text/plain; charset=utf-8", message.encode()
    if request.method == "HEAD":
        return "application/json", b""
    if request.headers.get("content-type", "").startswith("application/grpc"):
        return "text/plain; charset=utf-8", message.encode()
    if _is_navigation(request):
        return "text/html; charset=utf-8", _page(decision, message, _request_id(request)).encode()
    return "application/json", orjson.dumps(_status(decision, message, _request_id(request)))


def _is_navigation(request: Request) -> bool:
    headers = request.headers
    wants_page = "text/html" in headers.get("accept", "")
    return request.method == "GET" and wants_page and headers.get("sec-fetch-mode", "navigate") == "navigate"


def _status(decision: Decision, message: str, request_id: str) -> dict[str, object]:
    causes = [{"reason": str(decision.reason), "message": message}]
    if request_id:
        causes.append({"reason": "request_id", "message": request_id})
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS[decision.status],
        "details": {"causes": causes},
        "code": decision.status,
    }


def _page(decision: Decision, message: str, request_id: str) -> str:
    title = _TITLES[decision.status]
    footer = f"<p><small>Request {html.escape(request_id)}</small></p>" if request_id else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><body><h1>{title}</h1><p>{html.escape(message)}</p>{footer}</body></html>"
    )


def _request_id(request: Request) -> str:
    value = request.headers.get("x-request-id", "")
    return value if _REQUEST_ID.fullmatch(value) else ""


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
