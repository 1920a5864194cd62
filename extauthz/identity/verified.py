"""What became of a token: whose it is, and how long that holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from extauthz.identity.keys import KeySet
from extauthz.subject import Subject


class KeyHolder(Protocol):
    """Whoever has the keys that a token was verified with."""

    latest: KeySet | None


@dataclass(frozen=True, slots=True)
class Verified:
    """A verified token: it holds until a Unix time, and while the key set stays the same."""

    subject: Subject
    until: float
    store: KeyHolder
    keys: KeySet | None


@dataclass(slots=True, eq=False)
class Belief:
    """The ground of a token that is remembered; `clock` gives Unix time."""

    until: float
    store: KeyHolder
    keys: KeySet | None
    clock: Callable[[], float]

    def holds(self) -> bool:
        """Tell whether the token may still be believed without being verified again."""
        return self.clock() < self.until and self.keys is self.store.latest

    def end(self) -> None:
        """Believe it no longer."""
        self.until = -math.inf
