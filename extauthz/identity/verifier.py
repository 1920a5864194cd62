"""Verification of one issuer's tokens: cheap checks first, the signature last.

PyJWT verifies signature, issuer and audience; times are checked here, with the caller's
clock. Nothing in a token chooses a key by itself: `jwk`, `jku`, `x5u` and `x5c` are never
read, and critical extensions are refused, as none is understood.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import jwt

from extauthz.errors import CredentialError, ExtauthzError, Unavailable
from extauthz.identity.claims import check_times, subject_of
from extauthz.identity.faults import KEYS_UNAVAILABLE, CredentialFault
from extauthz.identity.keys import Key
from extauthz.identity.store import KeyStore
from extauthz.identity.token import UnverifiedToken
from extauthz.identity_settings import JwtIssuer
from extauthz.subject import Subject

_AUDIENCE_ERRORS = (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError)


class Verifier:
    """Turns the tokens of one issuer into subjects, with this issuer's keys only."""

    def __init__(self, issuer: JwtIssuer, store: KeyStore) -> None:
        self.issuer = issuer
        self.store = store

    def verify(self, token: UnverifiedToken, *, now: float) -> Subject | None:
        """Return the subject at Unix time `now`, or None where the token's key is not at hand.

        Raises CredentialError.
        """
        self._check_header(token.header)
        check_times(token.claims, now=now, leeway=self.issuer.leeway_seconds)
        keys = self.store.keys
        key = keys.find(algorithm=token.header["alg"], key_id=token.key_id) if keys else None
        return subject_of(self._verified(token, key), self.issuer) if key else None

    def may_renew(self, token: UnverifiedToken) -> bool:
        """Tell whether a fetch may bring the key that `verify` did not find, and may be waited for now."""
        wanted = token.key_id is not None or self.store.keys is None
        return wanted and self.store.quiet_for == 0

    def without_key(self) -> ExtauthzError:
        """Return the error for a token whose key is not at hand and cannot be fetched now."""
        if self.store.keys is not None:
            return CredentialError(CredentialFault.KEY_UNKNOWN, "the token is signed with an unknown key")
        message = "the keys of the token's issuer are not available"
        return Unavailable(KEYS_UNAVAILABLE, message, retry_after=max(1, ceil(self.store.quiet_for)))

    def _check_header(self, header: dict[str, Any]) -> None:
        if "crit" in header or "b64" in header:
            raise CredentialError(CredentialFault.EXTENSION_UNSUPPORTED, "the token needs an unsupported extension")
        if header.get("alg") not in self.issuer.algorithms:
            raise CredentialError(CredentialFault.ALGORITHM_NOT_ALLOWED, "the token's algorithm is not allowed")
        if not isinstance(header.get("kid", ""), str):
            raise CredentialError(CredentialFault.TOKEN_MALFORMED, "the token's key id is not text")
        if not self._is_expected_type(header):
            raise CredentialError(CredentialFault.TOKEN_TYPE_MISMATCH, "the token is not of the required type")

    def _is_expected_type(self, header: dict[str, Any]) -> bool:
        """Compare media types (RFC 7515 §4.1.9): case does not count, nor does `application/`."""
        if "typ" not in header:
            return self.issuer.token_type is None
        given, expected = header["typ"], self.issuer.token_type or "JWT"
        return isinstance(given, str) and _media_type(given) == _media_type(expected)

    def _verified(self, token: UnverifiedToken, key: Key) -> dict[str, Any]:
        try:
            return jwt.decode(
                token.text,
                key.public,
                algorithms=[token.header["alg"]],  # checked: in the settings' list, and one of the key's
                audience=self.issuer.audiences,
                issuer=self.issuer.issuer,
                options={
                    "require": ["exp", "iss", "aud"],
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
