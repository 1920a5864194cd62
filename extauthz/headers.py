"""How the upstream is told who asks, so that nobody else can tell it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from extauthz.basis import sent
from extauthz.errors import Unavailable
from extauthz.request.spelling import header_spellings
from extauthz.settings import ResponseSettings
from extauthz.subject import Subject

MAX_GROUPS_HEADER_BYTES = 8192

Headers = tuple[tuple[str, str], ...]

NAMING_A_USER = (
    *("gap-auth", "kubeflow-groups", "kubeflow-userid", "remote-user", "x-webauth-user"),
    *("impersonate-group", "impersonate-uid", "impersonate-user", "x-remote-group", "x-remote-uid", "x-remote-user"),
    *(
        f"{prefix}-{what}"
        for prefix in ("x-auth-request", "x-forwarded")
        for what in ("access-token", "email", "groups", "preferred-username", "user")
    ),
    *("x-amzn-oidc-accesstoken", "x-amzn-oidc-data", "x-amzn-oidc-identity"),
    *("x-goog-authenticated-user-email", "x-goog-authenticated-user-id", "x-goog-iap-jwt-assertion"),
)
"""Headers by which proxies name users, and which upstreams may believe: oauth2-proxy's, kube-apiserver's, clouds'."""


class IdentityHeaders:
    """The headers that tell the upstream who asks, and every look-alike that a client could have sent."""

    def __init__(self, response: ResponseSettings) -> None:
        """Take the settings; what they do not name is removed where a client is seen to send it."""
        self._user = response.user_header
        self._groups = response.groups_header
        own = [name for name in (response.user_header, response.groups_header) if name]
        names = [*own, *response.remove_headers]
        twins = [twin for name in names for twin in header_spellings(name)[1:]]
        self._always = (*response.remove_headers, *twins)
        self._everything = (*own, *self._always)
        spellings = {spelling for name in NAMING_A_USER for spelling in header_spellings(name)}
        self._impostors = frozenset(spellings.difference(self._everything))
        self._known = lru_cache(maxsize=1024)(self._told)

    def of(self, subject: Subject | None, headers: Mapping[str, str]) -> tuple[Headers, tuple[str, ...]]:
        """Return the headers to set, and those to remove of what was sent and of what may have been.

        Raises Unavailable for a user that no header can carry.
        """
        told, remove = (
            self._known(subject.user, subject.groups, subject.credential) if subject else ((), self._everything)
        )
        impostors = sent(headers, self._impostors)
        return told, (*remove, *sorted(impostors)) if impostors else remove

    def _told(self, user: str, all_groups: tuple[str, ...], credential: Headers) -> tuple[Headers, tuple[str, ...]]:
        if not _fits_header(user):
            raise Unavailable("user_not_a_header", "The user name cannot be told to the upstream.")
        told = ((self._user, user), *(pair for pair in credential if pair[0] not in self._everything))
        if self._groups is None:
            return told, self._always
        groups = ",".join(group for group in all_groups if _fits_list(group))
        if not groups or len(groups) > MAX_GROUPS_HEADER_BYTES:
            return told, (self._groups, *self._always)
        return (*told, (self._groups, groups)), self._always


def _fits_header(text: str) -> bool:
    return text.isprintable() and text == text.strip()


def _fits_list(group: str) -> bool:
    return not group.startswith("system:") and "," not in group and _fits_header(group)
