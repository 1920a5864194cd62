"""Callers that the mesh vouches for: services by their mTLS principal, users by a trusted hop's header.

Envoy takes the principal from the verified certificate of its caller and tells it in gRPC
checks, and in HTTP checks where the settings name the header in which it does. Without mTLS there
is none, and nobody is believed.
"""

from __future__ import annotations

import base64
import json
import re

from extauthz.basis import ALWAYS
from extauthz.errors import CredentialError
from extauthz.identity import serviceaccount
from extauthz.identity.claims import MAX_GROUPS, RESERVED_PREFIX, checked_name, unreserved
from extauthz.identity.faults import CredentialFault
from extauthz.request import Request
from extauthz.settings.identity import PeerSettings, TrustedHeaderSettings
from extauthz.subject import Subject

_PRINCIPAL = re.compile(r"spiffe://([a-z0-9._-]+)/ns/([a-z0-9-]+)/sa/([a-z0-9.-]+)", re.ASCII)


class PeerAuthenticator:
    """Knows services of the mesh as the ServiceAccounts they run under."""

    def __init__(self, settings: PeerSettings) -> None:
        self._patterns = frozenset(settings.principals)

    def authenticate(self, request: Request) -> Subject | None:
        """Return the calling ServiceAccount where its principal is named in the settings."""
        parts = _PRINCIPAL.fullmatch(request.peer)
        if parts is None:
            return None
        domain, namespace, name = parts.groups()
        spellings = {_principal(domain, *pair) for pair in ((namespace, name), (namespace, "*"), ("*", name))}
        if self._patterns.isdisjoint(spellings) or not serviceaccount.is_named(namespace, name):
            return None
        return serviceaccount.named(namespace, name, authenticator="peer", ground=ALWAYS)


class HeaderAuthenticator:
    """Believes the user that a trusted hop names in a header."""

    def __init__(self, settings: TrustedHeaderSettings) -> None:
        self._settings = settings
        self._hops = frozenset(settings.principals)

    def authenticate(self, request: Request) -> Subject | None:
        """Return the named user; None from any other caller, or without the header. Raises CredentialError."""
        name = request.headers.get(self._settings.user_header)
        if name is None or request.peer not in self._hops:
            return None
        user = checked_name(name, self._settings.user_header)
        if user.startswith(RESERVED_PREFIX) or "," in user:  # Envoy joins two headers of one name with a comma
            raise _invalid(f"header {self._settings.user_header} does not name one user")
        return Subject.authenticated(user, self._groups(request), authenticator="header", ground=ALWAYS)

    def _groups(self, request: Request) -> tuple[str, ...]:
        header = self._settings.groups_header
        if header is None or not (value := request.headers.get(header)):
            return ()
        listed = value.split(",") if self._settings.groups_format == "commas" else _decoded(value, header)
        if len(listed) > MAX_GROUPS:
            raise _invalid(f"header {header} lists more than {MAX_GROUPS} groups")
        return unreserved([checked_name(group, header) for group in listed])


def _principal(domain: str, namespace: str, name: str) -> str:
    return f"spiffe://{domain}/ns/{namespace}/sa/{name}"


def _decoded(value: str, header: str) -> list[object]:
    """Read a list claim as Envoy's jwt_authn writes it: base64url of its JSON."""
    try:
        groups = json.loads(base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        groups = None
    if not isinstance(groups, list):
        raise _invalid(f"header {header} is not a base64url JSON list")
    return groups


def _invalid(message: str) -> CredentialError:
    return CredentialError(CredentialFault.CLAIM_INVALID, message)
