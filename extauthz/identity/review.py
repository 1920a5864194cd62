"""Verification of Kubernetes tokens by asking an API server (TokenReview).

Only tokens that could be valid are sent: of a configured issuer, for one of our audiences,
and within their own times. Answers are shared while they are under way and believed for a
bounded time; a revoked token is refused from then on. Refusals are remembered for a moment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Sequence
from types import MappingProxyType
from typing import Protocol

from extauthz.errors import CredentialError, Unavailable
from extauthz.identity.claims import check_times
from extauthz.identity.faults import CredentialFault
from extauthz.identity.flights import Flights
from extauthz.identity.keys import KeySet
from extauthz.identity.refusals import Refusals
from extauthz.identity.store import Clock
from extauthz.identity.token import UnverifiedToken
from extauthz.identity.verified import Verified
from extauthz.settings.identity import TokenReviewSettings
from extauthz.subject import Subject

LEEWAY_SECONDS = 30


class TokenReviewer(Protocol):
    """Knows whose a Kubernetes token is."""

    async def start(self) -> None:
        """Get ready to be asked. Raises ConfigurationError."""
        ...

    async def stop(self) -> None:
        """Release everything."""
        ...

    async def review(self, token: str, audiences: Sequence[str]) -> Subject | None:
        """Return the subject of a token that is meant for one of `audiences`, or None. Raises Unavailable."""
        ...


class _NoKeys:
    """Stands where the API server has the keys."""

    latest: KeySet | None = None


_NO_KEYS = _NoKeys()


class ReviewingVerifier:
    """Turns Kubernetes tokens into subjects. `clock` gives Unix time, `monotonic` one that never steps."""

    def __init__(
        self, settings: TokenReviewSettings, reviewer: TokenReviewer, *, clock: Clock, monotonic: Clock
    ) -> None:
        self._settings = settings
        self._reviewer = reviewer
        self._clock = clock
        self._flights: Flights[str, Verified] = Flights(settings.max_concurrent, _busy)
        self._refusals = Refusals(settings.refused_seconds, monotonic)

    def verify(self, token: UnverifiedToken) -> Awaitable[Verified]:
        """Return the verified token. Raises CredentialError, and Unavailable without an answer."""
        if token.padded:
            raise CredentialError(CredentialFault.TOKEN_MALFORMED, "the token's segments are padded")
        check_times(token.claims, now=self._clock(), leeway=LEEWAY_SECONDS)
        if not self._is_for_us(token.claims.get("aud")):
            raise CredentialError(CredentialFault.AUDIENCE_MISMATCH, "the token is meant for others")
        return self._ask(token)

    async def start(self) -> None:
        """Get ready. Raises ConfigurationError."""
        await self._reviewer.start()

    async def stop(self) -> None:
        """End all questions under way."""
        await self._flights.close()
        await self._reviewer.stop()

    def _is_for_us(self, audience: object) -> bool:
        named = audience if isinstance(audience, list) else [audience]
        return any(isinstance(name, str) and name in self._settings.audiences for name in named)

    async def _ask(self, token: UnverifiedToken) -> Verified:
        if self._refusals.status_of(token.text):
            raise _rejected()
        return await self._flights.join(token.text, lambda: self._review(token))

    async def _review(self, token: UnverifiedToken) -> Verified:
        asked = self._clock()
        found = await self._reviewer.review(token.text, self._settings.audiences)
        if found is None:
            self._refusals.add(token.text, 401)
            raise _rejected()
        expires = float(token.claims["exp"])
        claims = MappingProxyType(token.claims)
        subject = dataclasses.replace(found, authenticator="tokenReview", expires=expires, claims=claims)
        return Verified(subject, min(expires, asked + self._settings.max_cache_seconds), _NO_KEYS, None)


def _rejected() -> CredentialError:
    return CredentialError(CredentialFault.TOKEN_REJECTED, "the cluster does not know the token")


def _busy() -> Unavailable:
    return Unavailable("token_reviews_busy", "Too many tokens are being checked.")
