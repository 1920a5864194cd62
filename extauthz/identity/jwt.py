"""Authentication by JSON Web Tokens of the configured issuers.

A token verified before is known by its whole text, so the common request costs one lookup
and one comparison of times. What is remembered holds no longer than the token, the
settings' limit, or the key set that verified it; refused tokens are not remembered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

from cachetools import LRUCache

from extauthz.errors import CredentialError
from extauthz.identity.faults import CredentialFault
from extauthz.identity.fetch import Resolve, key_source
from extauthz.identity.keys import KeySet
from extauthz.identity.store import Clock, KeyStore, Sleep
from extauthz.identity.token import UnverifiedToken, read_token
from extauthz.identity.verifier import Verifier
from extauthz.identity_settings import Identity
from extauthz.request import Request
from extauthz.subject import Subject

Credential = tuple[str, str]
"""The name of the header and its whole value."""


@dataclass(slots=True)
class _Known:
    """A verified token: whose it is, and how long that holds (Unix time, and while the keys are the same)."""

    subject: Subject
    until: float
    store: KeyStore
    keys: KeySet | None


class JwtAuthenticator:
    """Verifies the one JSON Web Token of a request against all configured issuers.

    The token's `iss` picks the issuer among those that may use its header; only that
    issuer's keys, algorithms and audiences then count. It belongs to one event loop.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        resolve: Resolve,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Take the settings; `resolve` makes their relative paths absolute. Nothing is fetched yet."""
        self._settings = identity
        self._clock = clock
        self._headers = tuple(dict.fromkeys(issuer.header for issuer in identity.jwt))
        self._verifiers = {
            (issuer.header, issuer.issuer): Verifier(
                issuer, KeyStore(issuer, key_source(issuer, resolve), clock=monotonic, sleep=sleep)
            )
            for issuer in identity.jwt
        }
        self._known: LRUCache[Credential, _Known] = LRUCache(identity.max_cached_tokens)

    async def start(self) -> None:
        """Begin to fetch keys in the background. Returns at once, also when an issuer is down."""
        for verifier in self._verifiers.values():
            verifier.store.start()

    async def stop(self) -> None:
        """End all fetching."""
        for verifier in self._verifiers.values():
            await verifier.store.stop()

    def problems(self) -> list[str]:
        """Return why this is not ready: one sentence for each issuer without keys."""
        stores = (verifier.store for verifier in self._verifiers.values())
        return [problem for store in stores if (problem := store.problem)]

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        """Return the caller that the request's token names; None where it carries no token.

        The answer must be awaited only where keys have to be fetched first. Raises
        CredentialError, and Unavailable while the issuer's keys cannot be had.
        """
        credential = self._credential(request.headers)
        if credential is None:
            return None
        known = self._known.get(credential)
        if known is not None and self._clock() < known.until and known.keys is known.store.latest:
            return known.subject
        return self._verify(credential)

    def _credential(self, headers: Mapping[str, str]) -> Credential | None:
        found = None
        for name in self._headers:
            if name in headers:
                if found is not None:
                    message = f"headers {found[0]} and {name} both carry a credential"
                    raise CredentialError(CredentialFault.CREDENTIAL_AMBIGUOUS, message)
                found = (name, headers[name])
        return found

    def _verify(self, credential: Credential) -> Subject | Awaitable[Subject]:
        header, value = credential
        token = read_token(header, value, max_bytes=self._settings.max_token_bytes)
        verifier = self._verifier(header, token)
        subject = self._attempt(credential, token, verifier)
        if subject is not None:
            return subject
        if not verifier.may_renew(token):
            raise verifier.without_key()
        return self._verify_after_fetch(credential, token, verifier)

    def _verifier(self, header: str, token: UnverifiedToken) -> Verifier:
        issuer = token.claims.get("iss")
        verifier = self._verifiers.get((header, issuer)) if isinstance(issuer, str) else None
        if verifier is None:
            raise CredentialError(CredentialFault.ISSUER_UNKNOWN, "the token is from an issuer that is not accepted")
        return verifier

    async def _verify_after_fetch(self, credential: Credential, token: UnverifiedToken, verifier: Verifier) -> Subject:
        # Once, or twice where the fetch that was already running began before the key was published.
        while verifier.may_renew(token):
            await verifier.store.renew()
            subject = self._attempt(credential, token, verifier)
            if subject is not None:
                return subject
        raise verifier.without_key()

    def _attempt(self, credential: Credential, token: UnverifiedToken, verifier: Verifier) -> Subject | None:
        now = self._clock()
        subject = verifier.verify(token, now=now)
        if subject is not None and self._settings.max_cached_tokens:
            self._known[credential] = self._remembered(subject, verifier, now)
        return subject

    def _remembered(self, subject: Subject, verifier: Verifier, now: float) -> _Known:
        valid_for = (subject.expires or 0.0) + verifier.issuer.leeway_seconds - now
        seconds = min(valid_for, self._settings.max_cache_seconds, verifier.store.serves_for)
        return _Known(subject, now + seconds, verifier.store, verifier.store.latest)
