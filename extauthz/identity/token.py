"""A JSON Web Token taken apart, before anything in it is believed.

Only the signed compact form is read: three non-empty base64url segments. Whatever else a
header can hold (a nested or encrypted token, two joined tokens, junk) is refused here, at a
few microseconds each and before any key is looked for. Padding is told apart, since AWS load
balancers, and nobody else, may write it.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from extauthz.errors import CredentialError
from extauthz.identity.faults import CredentialFault
from extauthz.identity.strictjson import parse_object

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)(={0,2})\.([A-Za-z0-9_-]+)(={0,2})\.([A-Za-z0-9_-]+)(={0,2})", re.ASCII)
_SCHEME = "Bearer "


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A well-formed token that anybody may have written. `text` is its compact form."""

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]

    @property
    def padded(self) -> bool:
        """Whether a segment ends in base64 padding, which RFC 7515 forbids."""
        return "=" in self.text

    @property
    def key_id(self) -> str | None:
        """The `kid` that the header names, if any."""
        return self.header.get("kid")


def read_token(header: str, value: str, *, max_bytes: int) -> UnverifiedToken:
    """Take apart the token in the value of a request header.

    `authorization` must be `Bearer`, one space and the token (RFC 6750 §2.1); the scheme's
    case counts, as it does for Envoy's jwt_authn. Any other header is the token alone.
    `max_bytes` bounds the token. Raises CredentialError.
    """
    if len(value) > max_bytes + len(_SCHEME):
        raise CredentialError(CredentialFault.TOKEN_TOO_LARGE, f"the token is larger than {max_bytes} bytes")
    if "," in value:
        raise CredentialError(CredentialFault.CREDENTIAL_AMBIGUOUS, f"header {header} holds more than one value")
    text = _without_scheme(value) if header == "authorization" else value
    if len(text) > max_bytes:
        raise CredentialError(CredentialFault.TOKEN_TOO_LARGE, f"the token is larger than {max_bytes} bytes")
    return _take_apart(text)


def _without_scheme(value: str) -> str:
    if not value.startswith(_SCHEME):
        raise CredentialError(CredentialFault.CREDENTIAL_UNSUPPORTED, "the authorization scheme must be Bearer")
    return value.removeprefix(_SCHEME)


def _take_apart(text: str) -> UnverifiedToken:
    parts = _COMPACT.fullmatch(text)
    if not parts or not _evenly_padded(text):
        raise CredentialError(CredentialFault.TOKEN_MALFORMED, "the credential is not a signed JSON Web Token")
    return UnverifiedToken(text, _decode(parts[1], "header"), _decode(parts[3], "payload"))


def _evenly_padded(text: str) -> bool:
    """Tell whether all segments are padded, or none, so that no padding can be added or taken off unnoticed."""
    return "=" not in text or all(len(part) % 4 == 0 for part in text.split("."))


def _decode(segment: str, part: str) -> dict[str, Any]:
    try:
        return parse_object(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except ValueError:
        message = f"the token's {part} is not one unambiguous JSON object"
        raise CredentialError(CredentialFault.TOKEN_MALFORMED, message) from None
