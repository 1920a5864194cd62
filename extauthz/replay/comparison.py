"""What changes from one policy to another over a whole log, in bounded memory.

Most requests of a log repeat, so each distinct one is decided once. What is told of it is
shared among all that come to the same, so memory grows with the users, namespaces and rules
that differ, not with the lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from extauthz.decision import Decision
from extauthz.replay.judge import UNDECIDABLE, Judge
from extauthz.replay.record import Recorded, Unreadable, key, read, recorded

MAX_KNOWN = 500_000
"""How many distinct requests are remembered; then everything is forgotten and the memory begins anew."""
MAX_EXAMPLES = 3


class Change(StrEnum):
    """What becomes of a request."""

    NEWLY_REFUSED = "newly-refused"
    NEWLY_ALLOWED = "newly-allowed"
    CHANGED = "changed"
    """It passes or not as before, for another reason or by another rule."""
    UNDECIDABLE = "undecidable"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What many requests come to alike."""

    change: Change
    user: str = ""
    namespace: str = ""
    rule: str = ""
    """The new policy's rule, or none."""
    old: str = ""
    new: str = ""
    """How each policy decides, in words; with `undecidable`, what is missing."""


@dataclass(slots=True)
class Group:
    """How often a verdict fell, and a few requests on which it did."""

    count: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)


class Comparison:
    """Compares two judges over the lines of a log. `groups` holds what differs, `counts` everything."""

    def __init__(self, old: Judge, new: Judge) -> None:
        self._old = old
        self._new = new
        self._cookies = sorted(old.cookies | new.cookies)
        self._known: dict[bytes, Verdict] = {}
        self._shared: dict[Verdict, Verdict] = {}
        self.counts: Counter[Change] = Counter()
        self.groups: dict[Verdict, Group] = {}
        self.distinct = 0
        self.unreadable: list[tuple[int, str]] = []
        self.unreadable_lines = 0

    @property
    def lines(self) -> int:
        """How many decisions were read."""
        return self.counts.total()

    def add(self, lines: Iterable[bytes]) -> Iterator[int]:
        """Compare line after line; yield the number of bytes of each."""
        for number, line in enumerate(lines, 1):
            if not line.isspace():
                self._add(number, line)
            yield len(line)

    def _add(self, number: int, line: bytes) -> None:
        try:
            data = read(line)
            verdict = self._verdict(data)
        except Unreadable as error:
            self.unreadable_lines += 1
            if len(self.unreadable) < MAX_EXAMPLES:
                self.unreadable.append((number, str(error)))
            return
        self.counts[verdict.change] += 1
        if verdict.change is not Change.UNCHANGED:
            group = self.groups.setdefault(verdict, Group())
            group.count += 1
            if len(group.examples) < MAX_EXAMPLES:
                group.examples.append((number, f"{data.get('method', '')} {data.get('target', '')}"))

    def _verdict(self, data: dict[str, Any]) -> Verdict:
        digest = blake2b(key(data), digest_size=16).digest()
        found = self._known.get(digest)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self.distinct += 1
            made = self._compare(recorded(data, self._cookies))
            found = self._known[digest] = self._shared.setdefault(made, made)
        return found

    def _compare(self, asked: Recorded | None) -> Verdict:
        if asked is None:  # refused before any policy is asked
            return _UNCHANGED
        old, new = self._old.decide(asked), self._new.decide(asked)
        if UNDECIDABLE in (old.reason, new.reason):
            missing = next(decision.message for decision in (new, old) if decision.reason == UNDECIDABLE)
            return Verdict(Change.UNDECIDABLE, new=missing)
        change = _change(old, new)
        if change is Change.UNCHANGED:
            return _UNCHANGED
        user = asked.subject.user if asked.subject else ""
        rule = new.rule.name if new.rule else ""
        return Verdict(change, user, _namespace(new) or _namespace(old), rule, _told(old), _told(new))


_UNCHANGED = Verdict(Change.UNCHANGED)


def _change(old: Decision, new: Decision) -> Change:
    if old.allowed is not new.allowed:
        return Change.NEWLY_ALLOWED if new.allowed else Change.NEWLY_REFUSED
    return Change.UNCHANGED if _meaning(old) == _meaning(new) else Change.CHANGED


def _meaning(decision: Decision) -> tuple[object, ...]:
    """What a caller, an upstream or an admin could tell apart."""
    rule = decision.rule.name if decision.rule else ""
    return decision.status, str(decision.reason), rule, decision.headers, decision.remove


def _namespace(decision: Decision) -> str:
    """Return the namespace of the first refused review, else of the first one."""
    reviews = sorted(decision.reviews, key=lambda review: review.allowed)
    return next((found for review in reviews if (found := getattr(review.attributes, "namespace", ""))), "")


def _told(decision: Decision) -> str:
    rule = f" by {decision.rule}" if decision.rule else ""
    return f"{decision.outcome} {decision.status} {decision.reason}{rule}"
