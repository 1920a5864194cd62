"""How a refusal is told: a page for a person, a Kubernetes Status for a client, text for gRPC, nothing for assets.

Nothing of another tenant is in it, everything is escaped, and nothing may cache it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import quote

import orjson

from extauthz.decision import Decision, Reason
from extauthz.edge.page import Page
from extauthz.request import Request
from extauthz.review import MissingRight, ResourceAttributes
from extauthz.settings.page import RefusalPage

_REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 503: "ServiceUnavailable"}
CODES = {400: 3, 401: 16, 403: 7, 503: 14}
"""google.rpc.Code by HTTP status."""
_ASSETS = frozenset(
    {
        *("audio", "audioworklet", "font", "image", "manifest", "paintworklet", "script", "serviceworker"),
        *("sharedworker", "style", "track", "video", "worker", "xslt"),
    }
)
"""Destinations (`Sec-Fetch-Dest`, W3C Fetch Metadata) of which nobody reads a body."""
_INVALID = 'Bearer realm="extauthz", error="invalid_token"'
_ABSENT = 'Bearer realm="extauthz"'
_PLAIN_TEXT = "text/plain; charset=utf-8"

Headers = tuple[tuple[str, str], ...]

_ALWAYS: Headers = (
    ("cache-control", "no-store"),
    ("vary", "authorization, cookie, accept"),
    ("x-content-type-options", "nosniff"),
)
_JSON: Headers = (("content-type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP; a refusal as the client gets it."""

    status: int
    headers: Headers
    body: bytes


class Form(Enum):
    """What fits the caller."""

    NOTHING = auto()
    HEAD = auto()
    TEXT = auto()
    GRPC_WEB = auto()
    PAGE = auto()
    STATUS = auto()


def _nobody(namespace: str) -> str:
    return ""


class Refusals:
    """Tells refusals as the settings say; `owner` knows whose a namespace is, and is asked only where they allow it."""

    def __init__(self, page: RefusalPage | None = None, owner: Callable[[str], str] = _nobody) -> None:
        page = page or RefusalPage()
        self._page = Page(page)
        self._owner = owner if page.tell_owner else _nobody

    def reply(self, decision: Decision, request: Request | None) -> Reply:
        """Return the reply to a request that does not pass: to the login page for a browser that navigates."""
        form = _form(request)
        login = decision.login if form is Form.PAGE else ""
        headers, body = ((), b"") if login else self._told(form, decision, request)
        headers += _ALWAYS
        if decision.status == 401 and not login:
            # RFC 6750 section 3: no error code where no token was sent.
            challenge = _ABSENT if decision.reason == Reason.NO_CREDENTIAL else _INVALID
            headers += (("www-authenticate", challenge),)
        headers += tuple(("set-cookie", cookie) for cookie in decision.cookies)
        if login:
            return Reply(302, (*headers, ("location", login)), b"")
        if decision.retry_after:
            headers += (("retry-after", str(decision.retry_after)),)
        return Reply(decision.status, headers, body)

    def _told(self, form: Form, decision: Decision, request: Request | None) -> tuple[Headers, bytes]:
        if form is Form.NOTHING:
            return (), b""
        if form is Form.HEAD:
            return _JSON, b""
        message = _one_line(decision.message)
        if form is Form.TEXT:
            return (("content-type", _PLAIN_TEXT),), message.encode()
        if form is Form.GRPC_WEB:
            return _grpc_web(decision.status, message), b""
        request_id = request.id if request else ""
        owner = self._owner_of(decision)
        if form is Form.PAGE:
            return self._page.headers, self._page.render(decision, message, request_id, owner)
        return _JSON, orjson.dumps(_status(decision, message, request_id, owner))

    def _owner_of(self, decision: Decision) -> str:
        asked = decision.missing.attributes if decision.missing else None
        return self._owner(asked.namespace) if isinstance(asked, ResourceAttributes) and asked.namespace else ""


def _form(request: Request | None) -> Form:
    if request is None:
        return Form.TEXT
    headers = request.headers
    if request.method == "HEAD":
        return Form.HEAD
    if headers.get("sec-fetch-dest") in _ASSETS:
        return Form.NOTHING
    kind = headers.get("content-type", "")
    if kind.startswith("application/grpc"):
        return Form.GRPC_WEB if kind.startswith("application/grpc-web") else Form.TEXT
    wants_page = "text/html" in headers.get("accept", "")
    if request.method == "GET" and wants_page and headers.get("sec-fetch-mode", "navigate") == "navigate":
        return Form.PAGE
    return Form.STATUS


def _grpc_web(status: int, message: str) -> Headers:
    """Return a `Trailers-Only` response (gRPC's PROTOCOL-WEB.md): Envoy makes one for gRPC itself, but not for this."""
    fields = (("grpc-status", str(CODES.get(status, 2))), ("grpc-message", quote(message, safe=" ")))
    return (("content-type", "application/grpc-web+proto"), *fields)


def _status(decision: Decision, message: str, request_id: str, owner: str) -> dict[str, object]:
    causes = [{"reason": str(decision.reason), "message": message}]
    if request_id:
        causes.append({"reason": "request_id", "message": request_id})
    if owner:
        causes.append({"reason": "owner", "message": owner})
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS[decision.status],
        "details": {**_object(decision.missing), "causes": causes},
        "code": decision.status,
    }


def _object(missing: MissingRight | None) -> dict[str, str]:
    """Name the object as kube-apiserver's refusals do (`StatusDetails`), as far as it may be told."""
    asked = missing.attributes if missing else None
    if not isinstance(asked, ResourceAttributes):
        return {}
    named = {"name": asked.name, "group": asked.group, "kind": asked.resource}
    return {key: value for key, value in named.items() if value}


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


PLAIN = Refusals()
"""Refusals as they are told without any settings."""
