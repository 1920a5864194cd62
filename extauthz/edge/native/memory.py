"""Allows that were given, each under all of the request that they were read from.

The same request need not be judged again while what its answer rests on holds (`basis`). Which
headers belong in the key is learned from what decisions have read: a decision that reads one
more begins the memory anew. So no header that can change an answer is left out, and none that
is new in every request, such as a trace id, is in the way.

Promises: nothing but allows without cookies and bodies is remembered, in bounded memory, and
whoever is remembered has a valid credential or needs none.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from extauthz.basis import Basis
from extauthz.decision import Decision
from extauthz.edge.asked import Asked

MAX_KEPT = 2048
MAX_KEY_LENGTH = 4096
"""The characters of a key; a request that needs more is judged anew each time."""
MAX_NAMES = 64
"""The headers in a key; a policy that reads more does without this memory."""

Key = tuple[str | bytes | frozenset[str] | None, ...]

Answer = TypeVar("Answer")
AskedT_contra = TypeVar("AskedT_contra", bound=Asked, contravariant=True)
AskedT = TypeVar("AskedT", bound=Asked)


class Keys(Protocol[AskedT_contra]):
    """Makes keys of requests: two with one key differ in no header that was ever read, and in nothing else."""

    def expect(self, names: frozenset[str], groups: frozenset[str]) -> None:
        """Take into keys from now on the values of some headers, and which ones of others are sent."""
        ...

    def of(self, asked: AskedT_contra) -> Key | None:
        """Return the key of a request, or None where it has none."""
        ...


class FieldKeys:
    """Makes keys of single fields."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._groups: frozenset[str] = frozenset()

    def expect(self, names: frozenset[str], groups: frozenset[str]) -> None:
        """Take into keys from now on the values of some headers, and which ones of others are sent."""
        self._names, self._groups = tuple(sorted(names)), groups

    def of(self, asked: Asked) -> Key | None:
        """Return the key of a request; one with a body has none."""
        if asked.content:
            return None
        headers, groups = asked.headers, self._groups
        # A set of our own is asked first: for the usual request, which sends none of these, that is all.
        found = None if groups.isdisjoint(headers) else groups.intersection(headers)
        return asked.method, asked.target, asked.host, asked.peer, found, *map(headers.get, self._names)


class Memory(Generic[AskedT, Answer]):
    """Remembers answers as they are written, with the decisions behind them."""

    def __init__(self, keys: Keys[AskedT]) -> None:
        self._keys = keys
        self._names: frozenset[str] = frozenset()
        self._groups: frozenset[frozenset[str]] = frozenset()
        self._kept: dict[Key, tuple[Decision, Answer]] = {}
        self.get = self._kept.get

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, asked: AskedT, decision: Decision, answer: Answer) -> None:
        """Remember an allow, if it may be given again at all."""
        basis = decision.basis
        if basis is None or decision.cookies or not self._knows(basis):
            return
        key = self._keys.of(asked)
        if key is None or sum(len(part) for part in key if part) > MAX_KEY_LENGTH:
            return
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[key] = decision, answer

    def _knows(self, basis: Basis) -> bool:
        """Learn which headers belong in keys. False: they would be too many."""
        if basis.headers <= self._names and basis.groups <= self._groups:
            return True
        names = self._names | basis.headers
        if len(names) > MAX_NAMES:
            return False
        self._names, self._groups = names, self._groups | basis.groups
        self._kept.clear()
        self._keys.expect(self._names, frozenset().union(*self._groups))
        return True
