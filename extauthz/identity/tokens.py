"""Authentication by the tokens of the configured issuers.

A token verified before is known by its whole text, so the common request costs one lookup
and one comparison of times. What is remembered holds no longer than the token, the
settings' limit, or the key set that verified it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from cachetools import LRUCache

from extauthz.errors import CredentialError
from extauthz.identity.faults import CredentialFault
from extauthz.identity.fetch import key_source
from extauthz.identity.review import ReviewingVerifier, TokenReviewer
from extauthz.identity.store import Clock, KeyStore, Sleep
from extauthz.identity.token import UnverifiedToken, read_token
from extauthz.identity.verified import Belief, KnownClaims, Verified
from extauthz.identity.verifier import Verifier
from extauthz.identity.web import Resolve
from extauthz.request import Request
from extauthz.settings.identity import Identity
from extauthz.subject import Subject

AUTHORIZATION = "authorization"

Credential = tuple[str, str]
"""The name of the header and its whole value."""


class TokenVerifier(Protocol):
    """Verifies the tokens of an issuer."""

    def verify(self, token: UnverifiedToken) -> Verified | Awaitable[Verified]:
        """Return the verified token. Raises CredentialError, Unavailable."""
        ...


class TokenAuthenticator:
    """Verifies the one token of a request, by its issuer's keys or by asking an API server.

    The token's `iss` picks the issuer among those that may use its header; only that
    issuer's keys, algorithms and audiences then count. It belongs to one event loop.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        resolve: Resolve,
        reviewer: TokenReviewer | None = None,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Take the settings; `resolve` makes their relative paths absolute. Nothing is fetched yet.

        `reviewer` is needed where the settings name `tokenReview`.
        """
        self._settings = identity
        self._clock = clock
        self._stores = []
        self._verifiers: dict[tuple[str, object], TokenVerifier] = {}
        for issuer in identity.jwt:
            store = KeyStore(issuer, key_source(issuer, resolve), clock=monotonic, sleep=sleep)
            self._stores.append(store)
            self._verifiers[issuer.header, issuer.issuer] = Verifier(issuer, store, clock)
        self._reviewing: ReviewingVerifier | None = None
        if identity.token_review is not None and reviewer is not None:
            self._reviewing = ReviewingVerifier(identity.token_review, reviewer, clock=clock, monotonic=monotonic)
            self._verifiers.update({(AUTHORIZATION, name): self._reviewing for name in identity.token_review.issuers})
        self._headers = tuple(dict.fromkeys(header for header, _ in self._verifiers))
        self._known = _Known(identity.max_cached_tokens)
        self.verified = 0
        """How many tokens were verified anew since the start."""

    async def start(self) -> None:
        """Begin to fetch keys in the background. Returns at once, also when an issuer is down.

        Raises ConfigurationError where the cluster to ask for reviews is not known.
        """
        if self._reviewing is not None:
            await self._reviewing.start()
        for store in self._stores:
            store.start()

    async def stop(self) -> None:
        """End all fetching."""
        for store in self._stores:
            await store.stop()
        if self._reviewing is not None:
            await self._reviewing.stop()

    @property
    def known(self) -> int:
        """How many verified tokens are remembered."""
        return len(self._known)

    @property
    def stores(self) -> Sequence[KeyStore]:
        """The keys of each issuer."""
        return self._stores

    def problems(self) -> list[str]:
        """Return why this is not ready: one sentence for each issuer without keys."""
        return [problem for store in self._stores if (problem := store.problem)]

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        """Return the caller that the request's token names; None where it carries no token.

        The answer must be awaited only where keys have to be fetched, or the cluster has to be
        asked. Raises CredentialError, and Unavailable while there is no answer.
        """
        credential = self._credential(request.headers)
        return None if credential is None else self.verify(credential)

    def verify(self, credential: Credential) -> Subject | Awaitable[Subject]:
        """Return the caller that a token names, in the form in which its header carries it. Raises as above."""
        known = self._known.get(credential)
        if known is not None and known.ground is not None and known.ground.holds():
            return known
        header, value = credential
        token = read_token(header, value, max_bytes=self._settings.max_token_bytes)
        verified = self._verifier(header, token).verify(token)
        if isinstance(verified, Verified):
            return self._remember(credential, verified)
        return self._remember_later(credential, verified)

    def _credential(self, headers: Mapping[str, str]) -> Credential | None:
        found = None
        for name in self._headers:
            if name in headers:
                if found is not None:
                    message = f"headers {found[0]} and {name} both carry a credential"
                    raise CredentialError(CredentialFault.CREDENTIAL_AMBIGUOUS, message)
                found = (name, headers[name])
        return found

    def _verifier(self, header: str, token: UnverifiedToken) -> TokenVerifier:
        issuer = token.claims.get("iss")
        verifier = self._verifiers.get((header, issuer)) if isinstance(issuer, str) else None
        if verifier is None:
            raise CredentialError(CredentialFault.ISSUER_UNKNOWN, "the token is from an issuer that is not accepted")
        return verifier

    async def _remember_later(self, credential: Credential, verified: Awaitable[Verified]) -> Subject:
        return self._remember(credential, await verified)

    def _remember(self, credential: Credential, verified: Verified) -> Subject:
        self.verified += 1
        if not self._settings.max_cached_tokens:
            return verified.subject
        until = min(verified.until, self._clock() + self._settings.max_cache_seconds)
        belief = Belief(until, verified.store, verified.keys, self._clock)
        self._known.pop(credential, None)
        subject = dataclasses.replace(verified.subject, ground=belief, claims=KnownClaims(*credential))
        self._known[credential] = subject
        return subject


class _Known(LRUCache[Credential, Subject]):
    """The subjects of the tokens that are remembered. One that is let go is no ground any more."""

    def __delitem__(self, key: Credential, *rest: Any) -> None:
        if isinstance(belief := self[key].ground, Belief):
            belief.end()
        super().__delitem__(key, *rest)
