"""All configured ways to be known, in their order.

The first that recognises its credential decides. A session cookie and a token are the
client's own, so where a request carries both they must name the same user; what a hop of the
mesh says is asked for only where nothing else was found.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Awaitable, Iterator
from typing import Protocol

from extauthz.decision import Reason
from extauthz.errors import CredentialError
from extauthz.identity.faults import CredentialFault
from extauthz.identity.peer import HeaderAuthenticator, PeerAuthenticator
from extauthz.identity.review import TokenReviewer
from extauthz.identity.session import SessionAuthenticator
from extauthz.identity.store import Clock
from extauthz.identity.tokens import TokenAuthenticator
from extauthz.identity.web import Resolve
from extauthz.request import Request
from extauthz.settings.identity import Identity, Kind
from extauthz.subject import Subject

_log = logging.getLogger(__name__)


class Link(Protocol):
    """One way to be known."""

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        """Return the subject, or None without a credential. Raises CredentialError, Refused, Unavailable."""
        ...


class Authenticators:
    """The authenticator that settings describe, with its life. It belongs to one event loop."""

    def __init__(
        self,
        identity: Identity,
        *,
        resolve: Resolve,
        reviewer: TokenReviewer | None = None,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
        tokens: TokenAuthenticator | None = None,
    ) -> None:
        """Take the settings; `resolve` makes their paths absolute, and `reviewer` answers `tokenReview`."""
        self.tokens = tokens or TokenAuthenticator(
            identity, resolve=resolve, reviewer=reviewer, clock=clock, monotonic=monotonic
        )
        self._session: SessionAuthenticator | None = None
        links: dict[Kind, Link] = {"token": self.tokens}
        if identity.session is not None:
            self._session = SessionAuthenticator(
                identity.session, self.tokens, max_bytes=identity.max_token_bytes, clock=monotonic
            )
            links["session"] = self._session
        if identity.header is not None:
            links["header"] = HeaderAuthenticator(identity.header)
            _warn("header", "may name any user", identity.header.principals)
        if identity.peer is not None:
            links["peer"] = PeerAuthenticator(identity.peer)
            _warn("peer", "are believed without a token", identity.peer.principals)
        self._links = [(links[kind], kind in _CLIENTS_OWN) for kind in identity.kinds]

    async def start(self) -> None:
        """Begin the background work. Returns at once, also when an issuer is down."""
        await self.tokens.start()
        if self._session is not None:
            await self._session.start()

    async def stop(self) -> None:
        """Release everything."""
        if self._session is not None:
            await self._session.stop()
        await self.tokens.stop()

    def problems(self) -> list[str]:
        """Return why this is not ready, in sentences."""
        return self.tokens.problems()

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        """Return the caller, or None where the request carries no credential.

        Where browsers can log in, such a request is a CredentialError that says where. Raises
        CredentialError, Refused and Unavailable as the single authenticators do.
        """
        return self._ask(request, iter(self._links), None)

    def _ask(
        self, request: Request, links: Iterator[tuple[Link, bool]], found: Subject | None
    ) -> Subject | Awaitable[Subject | None] | None:
        for link, clients_own in links:
            if found is not None and not clients_own:
                continue
            answer = link.authenticate(request)
            if answer is not None and not isinstance(answer, Subject):
                return self._ask_on(request, links, found, answer)
            found = _agreed(found, answer)
        if found is None and self._session is not None:
            message = "Log in: no credential was sent."
            raise CredentialError(Reason.NO_CREDENTIAL, message, login=self._session.login(request))
        return found

    async def _ask_on(
        self,
        request: Request,
        links: Iterator[tuple[Link, bool]],
        found: Subject | None,
        awaited: Awaitable[Subject | None],
    ) -> Subject | None:
        answer = self._ask(request, links, _agreed(found, await awaited))
        return answer if answer is None or isinstance(answer, Subject) else await answer


_CLIENTS_OWN: tuple[Kind, ...] = ("session", "token")


def _agreed(found: Subject | None, other: Subject | None) -> Subject | None:
    if found is None or other is None:
        return found or other
    if found.user != other.user:
        message = "the session and the token name different users"
        raise CredentialError(CredentialFault.CREDENTIAL_AMBIGUOUS, message)
    return dataclasses.replace(found, ground=None)  # it rests on both


def _warn(kind: str, what: str, principals: list[str]) -> None:
    _log.warning("identity.%s is on: these mesh principals %s: %s", kind, what, ", ".join(principals))
