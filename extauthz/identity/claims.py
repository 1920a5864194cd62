"""What a token says, held to what we can rely on: its times, and the subject it names.

Users and groups follow Kubernetes' structured authentication: prefixes are put before
them, and `system:` is reserved. No token may name a `system:` user but a cluster's own, and
`system:` groups are dropped unless the issuer is trusted for them, since kube-apiserver
allows `system:masters` everything without looking.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from extauthz.errors import CredentialError
from extauthz.identity.faults import CredentialFault
from extauthz.identity.serviceaccount import service_account
from extauthz.settings.identity import JwtIssuer
from extauthz.subject import Subject

MAX_NAME_BYTES = 1024
MAX_GROUPS = 1024
RESERVED_PREFIX = "system:"

_YEAR_10000 = 253_402_300_800  # beyond it a time is a mistake, and arithmetic may overflow

_log = logging.getLogger(__name__)


def check_times(claims: Mapping[str, Any], *, now: float, leeway: float, max_age: float | None = None) -> None:
    """Check `exp` (required), `nbf` and `iat` at Unix time `now`; `leeway` and `max_age` are in seconds.

    With `max_age`, `iat` is required and may lie no further back.

    A time must be a whole number of seconds (RFC 7519 NumericDate without the fraction,
    which parsers round differently). Raises CredentialError.
    """
    if "exp" not in claims:
        raise CredentialError(CredentialFault.CLAIM_INVALID, "claim exp is missing")
    if _seconds(claims, "exp") + leeway <= now:
        raise CredentialError(CredentialFault.TOKEN_EXPIRED, "the token has expired")
    for name in ("nbf", "iat"):
        if name in claims and _seconds(claims, name) - leeway > now:
            raise CredentialError(CredentialFault.TOKEN_NOT_YET_VALID, f"claim {name} lies in the future")
    if max_age is not None:
        if "iat" not in claims:
            raise CredentialError(CredentialFault.CLAIM_INVALID, "claim iat is missing")
        if _seconds(claims, "iat") + max_age + leeway <= now:
            raise CredentialError(CredentialFault.TOKEN_TOO_OLD, "the token was issued too long ago")


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    value = claims[name]
    if type(value) is not int or not 0 <= value < _YEAR_10000:  # bool is an int, and no time
        raise CredentialError(CredentialFault.CLAIM_INVALID, f"claim {name} is not a time in whole seconds")
    return value


def subject_of(claims: dict[str, Any], issuer: JwtIssuer) -> Subject:
    """Return the subject that verified claims name. Raises CredentialError."""
    if issuer.service_accounts:
        return service_account(claims, authenticator=f"jwt:{issuer.issuer}")
    names = issuer.claims
    user = checked_name(claims.get(names.user), names.user, prefix=names.user_prefix)
    if user.startswith(RESERVED_PREFIX):
        raise CredentialError(CredentialFault.CLAIM_INVALID, f"claim {names.user} names a reserved user")
    return Subject.authenticated(
        user,
        _groups(claims, issuer),
        authenticator=f"jwt:{issuer.issuer}",
        expires=float(claims["exp"]),
        claims=MappingProxyType(claims),
    )


def _groups(claims: Mapping[str, Any], issuer: JwtIssuer) -> tuple[str, ...]:
    names = issuer.claims
    if names.groups is None or names.groups not in claims:
        return ()
    values = claims[names.groups]
    listed = [values] if isinstance(values, str) else values
    if not isinstance(listed, list) or len(listed) > MAX_GROUPS:
        message = f"claim {names.groups} must be text or a list of at most {MAX_GROUPS} texts"
        raise CredentialError(CredentialFault.CLAIM_INVALID, message)
    groups = [checked_name(value, names.groups, prefix=names.groups_prefix) for value in listed]
    return tuple(groups) if issuer.trust_system_groups else unreserved(groups)


def unreserved(groups: list[str]) -> tuple[str, ...]:
    """Return the groups that are not Kubernetes' own."""
    kept = tuple(group for group in groups if not group.startswith(RESERVED_PREFIX))
    if len(kept) < len(groups):
        _log.debug("dropped %d reserved groups of a token", len(groups) - len(kept))
    return kept


def checked_name(value: Any, claim: str, *, prefix: str = "") -> str:
    """Return a user or group name with its prefix. Raises CredentialError.

    Space at its ends is refused: HTTP would cut it off on the way upstream.
    """
    if not isinstance(value, str) or not value or value != value.strip():
        message = f"claim {claim} must be text that is not empty and has no space at its ends"
        raise CredentialError(CredentialFault.CLAIM_INVALID, message)
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise CredentialError(CredentialFault.CLAIM_INVALID, f"claim {claim} holds a control character")
    name = prefix + value
    if len(name.encode("utf-8")) > MAX_NAME_BYTES:
        raise CredentialError(CredentialFault.CLAIM_INVALID, f"claim {claim} is longer than {MAX_NAME_BYTES} bytes")
    return name
