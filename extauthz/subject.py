"""Who asks: a verified identity in Kubernetes' terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from extauthz.basis import Ground

AUTHENTICATED_GROUP = "system:authenticated"

_NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Subject:
    """A verified caller, as a SubjectAccessReview names it.

    `groups` are sorted and unique and hold `system:authenticated`. `claims` are the
    verified token's, for `claim:` sources; they take no part in equality.
    `expires` is Unix time in seconds after which the credential is no longer valid.
    `credential` are request headers that prove this identity to the upstream, where the client
    did not send them itself; `set_cookies` are `set-cookie` values that keep its session alive.
    `ground` tells how long the same request is known to come from this subject.
    """

    user: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    authenticator: str = field(default="", compare=False)
    expires: float | None = field(default=None, compare=False)
    claims: Mapping[str, Any] = field(default_factory=lambda: _NO_CLAIMS, compare=False, repr=False)
    credential: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    set_cookies: tuple[str, ...] = field(default=(), compare=False, repr=False)
    ground: Ground | None = field(default=None, compare=False, repr=False)

    @classmethod
    def authenticated(cls, user: str, groups: tuple[str, ...] = (), **rest: Any) -> Subject:
        """Build a subject with `system:authenticated` added, as kube-apiserver does for every login."""
        return cls(user=user, groups=tuple(sorted({*groups, AUTHENTICATED_GROUP})), **rest)

    def alone(self) -> Subject:
        """Return who asks by the name alone: no group, uid or extra takes part in a review."""
        return Subject(self.user)
