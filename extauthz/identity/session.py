"""Browser sessions of oauth2-proxy: a cookie is exchanged for the token behind it.

oauth2-proxy says whether its cookie is good; what it answers is a token, and that is verified
like any other, so a session is worth exactly as much as its token. Answers are kept per
cookie, shared while they are under way, and asked for again once the token has expired.
Refusals are remembered for a moment.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
from cachetools import LRUCache

from extauthz.errors import CredentialError, ExtauthzError, Refused, Unavailable
from extauthz.identity.faults import CredentialFault
from extauthz.identity.flights import Flights
from extauthz.identity.refusals import Refusals
from extauthz.identity.signin import sign_in
from extauthz.identity.store import Clock
from extauthz.identity.tokens import AUTHORIZATION, Credential, TokenAuthenticator
from extauthz.request import Request
from extauthz.settings.identity import SessionSettings
from extauthz.subject import Subject

MAX_PARTS = 16
"""Into how many cookies a session may be split."""

Cookies = tuple[tuple[str, str], ...]

_SEPARATOR = re.compile(r"[;,]")  # Envoy joins several cookie headers with commas
_SET_COOKIE = "set-cookie"
_REFUSED = (401, 403)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Session:
    """What oauth2-proxy answered: a token, and refreshed cookies; and when it was asked."""

    credential: Credential
    cookies: tuple[str, ...]
    asked: float
    verified: Subject | None = None
    subject: Subject | None = None

    def names(self, verified: Subject) -> Subject:
        """Return a verified token's subject with what belongs to the session."""
        if self.subject is None or self.verified is not verified:
            self.verified = verified
            self.subject = dataclasses.replace(
                verified, credential=(self.credential,), set_cookies=self.cookies, authenticator="session", ground=None
            )
        return self.subject


class SessionAuthenticator:
    """Knows callers by oauth2-proxy's cookie. It belongs to one event loop; `clock` never steps."""

    def __init__(self, settings: SessionSettings, tokens: TokenAuthenticator, *, max_bytes: int, clock: Clock) -> None:
        """Take the settings; `tokens` verifies what oauth2-proxy answers, of at most `max_bytes`."""
        self._settings = settings
        self._tokens = tokens
        self._max_bytes = max_bytes
        self._clock = clock
        self._part = re.compile(rf"{re.escape(settings.cookie)}(?:_[0-9]{{1,2}})?", re.ASCII)
        self._known: LRUCache[Cookies, _Session] = LRUCache(settings.max_cached)
        self._flights: Flights[Cookies, _Session] = Flights(settings.max_concurrent, _busy)
        self._refusals = Refusals(settings.refused_seconds, clock)
        self._client: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make connections possible; nothing is asked yet."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._settings.max_concurrent),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_seconds),
            max_field_size=self._max_bytes + 1024,
            trust_env=False,
        )

    async def stop(self) -> None:
        """End all questions under way and close all connections."""
        await self._flights.close()
        if self._client is not None:
            await self._client.close()

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject] | None:
        """Return the caller that the session cookie stands for; None without one.

        Raises CredentialError, with the place to log in where logging in would help; Refused for
        a user whom oauth2-proxy turns away; Unavailable while there is no answer.
        """
        cookies = self._cookies(request.headers)
        if not cookies:
            return None
        session = self._known.get(cookies)
        if session is None or self._clock() >= session.asked + self._settings.max_cache_seconds:
            return self._ask(cookies, request)
        try:
            answer = self._tokens.verify(session.credential)
        except CredentialError:
            if session.verified is not None:
                del self._known[cookies]  # it was good, and expired, or its key is withdrawn: there may be a new one
            return self._ask(cookies, request)
        return session.names(answer) if isinstance(answer, Subject) else self._wait(session, answer, request)

    def _cookies(self, headers: Mapping[str, str]) -> Cookies:
        """Return the session's cookies in the order of their names. Raises CredentialError for contradictions."""
        header = headers.get("cookie")
        if header is None or self._settings.cookie not in header:
            return ()
        found: dict[str, str] = {}
        for pair in _SEPARATOR.split(header):
            name, _, value = pair.strip().partition("=")
            if self._part.fullmatch(name) and found.setdefault(name, value) != value:
                raise CredentialError(CredentialFault.CREDENTIAL_AMBIGUOUS, "two session cookies contradict each other")
        if len(found) > MAX_PARTS:
            raise CredentialError(CredentialFault.CREDENTIAL_AMBIGUOUS, "the session has too many cookies")
        return tuple(sorted(found.items()))

    async def _ask(self, cookies: Cookies, request: Request) -> Subject:
        with self._leading_to_login(request):
            session = self._recalled(cookies) or await self._flights.join(cookies, lambda: self._exchange(cookies))
            answer = self._tokens.verify(session.credential)
            return session.names(answer if isinstance(answer, Subject) else await answer)

    async def _wait(self, session: _Session, answer: Awaitable[Subject], request: Request) -> Subject:
        with self._leading_to_login(request):
            return session.names(await answer)

    @contextmanager
    def _leading_to_login(self, request: Request) -> Iterator[None]:
        """Say where to log in where that would help."""
        try:
            yield
        except CredentialError as error:
            if error.reason not in (CredentialFault.SESSION_INVALID, CredentialFault.TOKEN_EXPIRED):
                raise
            message = "The session has ended: log in again."
            raise CredentialError(CredentialFault.SESSION_INVALID, message, login=self.login(request)) from None

    def _recalled(self, cookies: Cookies) -> _Session | None:
        """Return what oauth2-proxy answered a moment ago, good or bad. Raises what `_check` does."""
        if status := self._refusals.status_of(_header(cookies)):
            self._check(status)
        session = self._known.get(cookies)
        moment = min(self._settings.refused_seconds, self._settings.max_cache_seconds)
        return session if session and self._clock() < session.asked + moment else None

    def login(self, request: Request) -> str:
        """Return the place to log in, and to come back from to what was asked for."""
        return sign_in(self._settings.sign_in, request)

    async def _exchange(self, cookies: Cookies) -> _Session:
        """Ask oauth2-proxy once. Raises CredentialError, Refused, Unavailable."""
        if self._client is None:
            raise _unavailable("it is not connected")
        asked, sent = self._clock(), _header(cookies)
        try:
            async with self._client.get(
                self._settings.url, headers={"cookie": sent}, allow_redirects=False
            ) as response:
                if response.status in _REFUSED:
                    self._refusals.add(sent, response.status)
                self._check(response.status)
                token = response.headers.get(self._settings.token_header, "")
                refreshed = tuple(response.headers.getall(_SET_COOKIE, ()))
        except (OSError, aiohttp.ClientError, ValueError) as error:
            raise _unavailable("it cannot be reached") from error
        session = _Session(self._credential(token), self._own(refreshed), asked)
        if self._settings.max_cached:
            self._known[cookies] = session
        return session

    def _check(self, status: int) -> None:
        if status == 401:
            raise CredentialError(CredentialFault.SESSION_INVALID, "The session has ended.")
        if status == 403:
            raise Refused(CredentialFault.SESSION_REFUSED, "oauth2-proxy does not admit this user.", status=403)
        if status not in (200, 202):
            raise _unavailable(f"it answered {status}")

    def _credential(self, token: str) -> Credential:
        if not token:
            raise _unavailable(f"its answer has no header {self._settings.token_header}")
        return AUTHORIZATION, token if self._settings.token_header == AUTHORIZATION else f"Bearer {token}"

    def _own(self, cookies: tuple[str, ...]) -> tuple[str, ...]:
        """Keep what renews the session; anything else is no business of a check."""
        return tuple(
            cookie for cookie in cookies if cookie.isprintable() and self._part.fullmatch(cookie.partition("=")[0])
        )


def _header(cookies: Cookies) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies)


def _unavailable(why: str) -> ExtauthzError:
    _log.warning("oauth2-proxy did not say whose a session is: %s", why)
    return Unavailable("session_unavailable", "The session cannot be checked now.")


def _busy() -> Unavailable:
    return Unavailable("sessions_busy", "Too many sessions are being checked.")
