"""What a decision rests on, so that the same request can be answered again without being judged anew.

Whoever answers a part of the question (who asks, may they) may hand out a `Ground` with the
answer: it says whether the same question would be answered alike at this moment. An answer
without a ground can only be given once. Which headers count is noted while they are read, so
there is no second list of them that could fall behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol


class Ground(Protocol):
    """What one answer rests on."""

    def holds(self) -> bool:
        """Whether the same question would be answered in the same way now, and at once."""
        ...


class _Always:
    def holds(self) -> bool:
        return True


ALWAYS: Ground = _Always()
"""The ground of answers that depend on nothing but the question."""


@dataclass(frozen=True, slots=True)
class Basis:
    """All that a decision rests on beside method, target, host and peer.

    `headers` are those that were read, `groups` those of which it was only asked whether they were sent.
    """

    headers: frozenset[str]
    groups: frozenset[frozenset[str]]
    grounds: tuple[Ground, ...]

    def holds(self) -> bool:
        """Whether every ground holds."""
        for ground in self.grounds:  # noqa: SIM110 -- `all` with a generator takes three times as long
            if not ground.holds():
                return False
        return True


def joined(grounds: Iterable[Ground | None]) -> tuple[Ground, ...] | None:
    """Return the grounds that can change; None where one is not known."""
    found = tuple(grounds)
    if None in found:
        return None
    return tuple(ground for ground in found if ground is not None and ground is not ALWAYS)


class NotedHeaders(Mapping[str, str]):
    """Headers that note which names are asked for. Whoever looks at all of them leaves no basis to note."""

    __slots__ = ("_all", "_asked", "_groups", "_headers")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._asked: set[str] = set()
        self._groups: set[frozenset[str]] = set()
        self._all = False

    def basis(self, grounds: tuple[Ground, ...]) -> Basis | None:
        """Return what rests on all that was asked for so far; None where that was everything."""
        return None if self._all else Basis(frozenset(self._asked), frozenset(self._groups), grounds)

    def sent(self, group: frozenset[str]) -> frozenset[str]:
        """Return which headers of a group are among these."""
        self._groups.add(group)
        return sent(self._headers, group)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # values are text
        self._asked.add(name)
        return self._headers.get(name, default)

    def __contains__(self, name: object) -> bool:
        self._asked.add(str(name))
        return name in self._headers

    def __iter__(self) -> Iterator[str]:
        self._all = True
        return iter(self._headers)

    def __len__(self) -> int:
        self._all = True
        return len(self._headers)


def sent(headers: Mapping[str, str], group: frozenset[str]) -> frozenset[str]:
    """Return which headers of a group were sent. To ask for each by itself would make it part of a basis."""
    if isinstance(headers, NotedHeaders):
        return headers.sent(group)
    return frozenset() if group.isdisjoint(headers) else group.intersection(headers)
