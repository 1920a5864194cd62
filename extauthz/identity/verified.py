"""What became of a token: whose it is, and how long that holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from extauthz.identity.keys import KeySet
from extauthz.subject import Subject


class KeyHolder(Protocol):
    """Whoever has the keys that a token was verified with."""

    latest: KeySet | None


@dataclass(slots=True)
class Verified:
    """A verified token: it holds until a Unix time, and while the key set stays the same."""

    subject: Subject
    until: float
    store: KeyHolder
    keys: KeySet | None

    def holds(self, now: float) -> bool:
        """Tell whether this may still be believed at Unix time `now`."""
        return now < self.until and self.keys is self.store.latest
