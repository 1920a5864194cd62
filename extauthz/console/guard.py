"""Who may open the console: a verified token, and a right that Kubernetes reviews at every request.

Promises: no page of another origin can read a page or send a form, nor pose as the console
by a name of its own that resolves to it (DNS rebinding); a right that is revoked ends at
once; the token is in no address and no script can read it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable
from urllib.parse import urlsplit

from aiohttp import web

from extauthz.errors import CredentialError
from extauthz.request import read
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes, Review
from extauthz.steps import Authenticator, Authorizer
from extauthz.subject import Subject

COOKIE = "extauthz-console"
MAX_COOKIE_CHARACTERS = 3800
"""Browsers keep cookies of 4096 bytes, attributes included."""
SEE = NonResourceAttributes("get", "/extauthz/console")
"""The right to open the console."""
EXPLAIN = ResourceAttributes("create", "authorization.k8s.io", "v1", "subjectaccessreviews")
"""The right to ask what others may do, which is what explaining a request tells."""

_BEARER = re.compile(r"(?:Bearer +)?([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)


class Guard:
    """Knows who asks, and what they may see.

    `headers` are those in which the settings expect tokens; `hosts` the names under which the
    console may be reached.
    """

    def __init__(
        self, authenticator: Authenticator, authorizer: Authorizer, *, headers: Iterable[str], hosts: Iterable[str]
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._headers = tuple(headers)
        self._hosts = frozenset(hosts)

    def is_reached(self, request: web.Request) -> bool:
        """Whether the request names a host of the console."""
        name = re.sub(r":[0-9]+$", "", request.headers.get("host", "").lower())
        return name in self._hosts

    async def caller(self, request: web.Request) -> Subject | None:
        """Return who asks, None without a token. Raises CredentialError and Unavailable."""
        token = self._token(request)
        return await self.verified(token) if token else None

    async def verified(self, token: str) -> Subject:
        """Return whom a token names. Raises CredentialError and Unavailable."""
        failure = CredentialError("credential_invalid", "the token is from nobody that the settings believe")
        for name in self._headers:
            # Nothing but the token: no other header and no peer can vouch for anybody here.
            headers = {name: f"Bearer {token}" if name == "authorization" else token}
            try:
                answer = self._authenticator.authenticate(read(method="GET", target=SEE.path, headers=headers))
                subject = answer if answer is None or isinstance(answer, Subject) else await answer
            except CredentialError as error:
                failure = error
                continue
            if subject is not None:
                return subject
        raise failure

    async def may(self, subject: Subject, right: Attributes) -> bool:
        """Whether somebody has a right. Raises Unavailable."""
        answer: Review | Awaitable[Review] = self._authorizer.review(subject, right)
        review = answer if isinstance(answer, Review) else await answer
        return review.allowed is True

    def _token(self, request: web.Request) -> str:
        if "authorization" in request.headers:
            found = _BEARER.fullmatch(request.headers["authorization"])
            return found[1] if found else ""
        return request.cookies.get(COOKIE, "")


def is_own_form(request: web.Request) -> bool:
    """Whether a form comes from a page of the console, or with a token of its own, which no other page has."""
    origin = request.headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == request.host and origin != "null"
    return request.headers.get("sec-fetch-site") == "same-origin" or "authorization" in request.headers


def pasted(text: str) -> str:
    """Return the token in what somebody pasted, empty where there is none."""
    found = _BEARER.fullmatch(text.strip())
    return found[1] if found else ""


def remember(response: web.StreamResponse, request: web.Request, token: str, seconds: int | None) -> None:
    """Let the browser send a token with each further request, for as long as it is valid."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=seconds,
        path="/console",
        httponly=True,
        samesite="Strict",
        secure=request.scheme == "https",
    )


def forget(response: web.StreamResponse) -> None:
    """Let the browser forget the token."""
    response.del_cookie(COOKIE, path="/console", httponly=True, samesite="Strict")
