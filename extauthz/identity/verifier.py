"""Verification of one issuer's tokens by its keys: cheap checks first, the signature last.

PyJWT verifies signature, issuer and audience; times are checked here, with the caller's
clock. Nothing in a token chooses a key by itself: `jwk`, `jku`, `x5u` and `x5c` are never
read, and critical extensions are refused, as none is understood.
"""

from __future__ import annotations

from collections.abc import Awaitable
from math import ceil
from typing import Any

import jwt

from extauthz.errors import CredentialError, ExtauthzError, Unavailable
from extauthz.identity.claims import check_times, subject_of
from extauthz.identity.faults import KEYS_UNAVAILABLE, CredentialFault
from extauthz.identity.keys import Key
from extauthz.identity.store import Clock, KeyStore
from extauthz.identity.token import UnverifiedToken
from extauthz.identity.verified import Verified
from extauthz.settings.identity import JwtIssuer

_AUDIENCE_ERRORS = (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError)


class Verifier:
    """Turns the tokens of one issuer into subjects, with this issuer's keys only.

    `clock` gives Unix time.
    """

    def __init__(self, issuer: JwtIssuer, store: KeyStore, clock: Clock) -> None:
        self.issuer = issuer
        self.store = store
        self._clock = clock

    def verify(self, token: UnverifiedToken) -> Verified | Awaitable[Verified]:
        """Return the verified token; the answer must be awaited where its key has to be fetched first.

        Raises CredentialError, and Unavailable while the keys cannot be had.
        """
        verified = self._attempt(token)
        if verified is not None:
            return verified
        if not self._may_renew(token):
            raise self._without_key()
        return self._verify_after_fetch(token)

    async def _verify_after_fetch(self, token: UnverifiedToken) -> Verified:
        # A fetch may have landed since `verify` returned, so the present keys are tried before each refusal.
        # One is waited for, or two where the first began before the key was published.
        while (verified := self._attempt(token)) is None:
            if not self._may_renew(token):
                raise self._without_key()
            await self.store.renew(token.key_id)
        return verified

    def _attempt(self, token: UnverifiedToken) -> Verified | None:
        """Verify with the keys at hand; None where the token's is not among them."""
        self._check_header(token)
        issuer, now = self.issuer, self._clock()
        check_times(token.claims, now=now, leeway=issuer.leeway_seconds, max_age=issuer.max_token_age_seconds)
        keys = self.store.keys
        key = keys.find(algorithm=token.header["alg"], key_id=token.key_id) if keys else None
        if key is None:
            return None
        subject = subject_of(self._decoded(token, key), issuer)
        return Verified(subject, min(self._ends(token), now + self.store.serves_for), self.store, self.store.latest)

    def _ends(self, token: UnverifiedToken) -> float:
        """The Unix time at which the token's own times end its validity."""
        issuer, claims = self.issuer, token.claims
        ends = float(claims["exp"])
        if issuer.max_token_age_seconds is not None:
            ends = min(ends, claims["iat"] + issuer.max_token_age_seconds)
        return ends + issuer.leeway_seconds

    def _may_renew(self, token: UnverifiedToken) -> bool:
        """Tell whether a fetch may bring the key that is not at hand, and may be waited for now."""
        wanted = token.key_id is not None or self.store.keys is None
        return wanted and self.store.quiet_for == 0

    def _without_key(self) -> ExtauthzError:
        """Return the error for a token whose key is not at hand and cannot be fetched now."""
        if self.store.keys is not None and not self.store.one_by_one:
            return CredentialError(CredentialFault.KEY_UNKNOWN, "the token is signed with an unknown key")
        message = "the keys of the token's issuer are not available"
        return Unavailable(KEYS_UNAVAILABLE, message, retry_after=max(1, ceil(self.store.quiet_for)))

    def _check_header(self, token: UnverifiedToken) -> None:
        header = token.header
        if token.padded and self.issuer.alb_signer is None:
            raise CredentialError(CredentialFault.TOKEN_MALFORMED, "the token's segments are padded")
        if "crit" in header or "b64" in header:
            raise CredentialError(CredentialFault.EXTENSION_UNSUPPORTED, "the token needs an unsupported extension")
        if header.get("alg") not in self.issuer.algorithms:
            raise CredentialError(CredentialFault.ALGORITHM_NOT_ALLOWED, "the token's algorithm is not allowed")
        if not isinstance(header.get("kid", ""), str):
            raise CredentialError(CredentialFault.TOKEN_MALFORMED, "the token's key id is not text")
        if not self._is_expected_type(header):
            raise CredentialError(CredentialFault.TOKEN_TYPE_MISMATCH, "the token is not of the required type")
        if self.issuer.alb_signer is not None:
            self._check_load_balancer(header, self.issuer.alb_signer)

    def _check_load_balancer(self, header: dict[str, Any], signer: str) -> None:
        """The keys serve every load balancer of a region, so its name decides, and its client is the audience."""
        if header.get("signer") != signer:
            raise CredentialError(CredentialFault.SIGNER_MISMATCH, "the token is signed by another load balancer")
        if header.get("client") not in self.issuer.audiences:
            raise CredentialError(CredentialFault.AUDIENCE_MISMATCH, "the token is meant for others")

    def _is_expected_type(self, header: dict[str, Any]) -> bool:
        """Compare media types (RFC 7515 §4.1.9): case does not count, nor does `application/`."""
        if "typ" not in header:
            return self.issuer.token_type is None
        given, expected = header["typ"], self.issuer.token_type or "JWT"
        return isinstance(given, str) and _media_type(given) == _media_type(expected)

    def _decoded(self, token: UnverifiedToken, key: Key) -> dict[str, Any]:
        audiences = None if self.issuer.alb_signer else self.issuer.audiences
        try:
            return jwt.decode(
                token.text,
                key.public,
                algorithms=[token.header["alg"]],  # checked: in the settings' list, and one of the key's
                audience=audiences,
                issuer=self.issuer.issuer,
                options={
                    "require": ["exp", "iss", "aud"] if audiences else ["exp", "iss"],
                    "verify_aud": audiences is not None,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.InvalidSignatureError:
            raise CredentialError(CredentialFault.SIGNATURE_INVALID, "the token's signature is not valid") from None
        except _AUDIENCE_ERRORS:
            raise CredentialError(CredentialFault.AUDIENCE_MISMATCH, "the token is meant for others") from None
        except jwt.PyJWTError:
            raise CredentialError(CredentialFault.TOKEN_MALFORMED, "the token is not valid") from None


def _media_type(name: str) -> str:
    return name.lower().removeprefix("application/")
