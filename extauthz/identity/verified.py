"""What became of a token: whose it is, and how long that holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from extauthz.identity.keys import KeySet
from extauthz.identity.token import read_token
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


class KnownClaims(Mapping[str, Any]):
    """The claims of a verified token, read from it whenever one is asked for.

    Few policies ask, and ten thousand tokens' claims take 12 MB beside the tokens themselves.
    """

    __slots__ = ("_header", "_value")

    def __init__(self, header: str, value: str) -> None:
        """Take the name of the header and its whole value, which was read before."""
        self._header = header
        self._value = value

    def __getitem__(self, name: str) -> Any:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> dict[str, Any]:
        return read_token(self._header, self._value, max_bytes=len(self._value)).claims
