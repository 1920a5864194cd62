"""Kept answers: how long each may serve, and how many there are.

Promises:

- No answer outlives its time, the credential it was given for, or an event that could
  change it. Times count from when the review was sent, not from when it was answered.
- An API server may lag behind its own watch, so an answer whose review was sent before
  the settling time after such an event was over is kept no longer than that time.
- While the watch does not see every change, no answer older than `ttlWithoutWatch` serves.
- Answers with an evaluation error and questions of 10,000 bytes are never kept, and the
  authorizer's reasons are not: they take memory and are for whoever asks anew.
- The least recently used answers go first. A flood of distinct questions is bounded by
  the reviews that an API server answers, so pushing out an answer that is in use takes
  longer than such an answer lives.
"""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import chain

from extauthz.access.generations import Change, Generations
from extauthz.access.review_key import requester_bytes
from extauthz.review import Attributes, Review
from extauthz.settings import ReviewCacheSettings
from extauthz.subject import Subject

MAX_REQUESTER_BYTES = 10_000
"""Questions of this size are not kept; kube-apiserver's webhook authorizer has the same limit."""

ENTRY_BYTES = 400
"""What an answer takes beside the text of its question, as measured."""

UNIT_BYTES = 64
"""Sizes are counted in these, for Python holds numbers below 257 once and all others each time."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A review that is asked for: by whom, when it was `sent`, and in which epoch."""

    key: Hashable
    subject: Subject
    attributes: Attributes
    sent: float
    epoch: int


@dataclass(slots=True, eq=False)
class _Entry:
    """An answer and its limits. While the epoch is `epoch` it serves until `fresh_until` without a further look.

    The whole review is put together for each hit: a hundred thousand of them would take 15 MB.
    An entry is the ground of the reviews that it gives, until it is superseded or let go.
    """

    kept: KeptReviews
    allowed: bool
    units: int
    sent: float
    epoch: int
    expires: float
    stale_until: float
    fresh_until: float = -math.inf

    def holds(self) -> bool:
        """Whether this is the answer that is given now."""
        kept = self.kept
        return self.epoch == kept.generations.epoch and kept.clock() < self.fresh_until


class _Entries:
    """Entries by their keys, in the order of their last use, bounded by number and by size.

    cachetools' LRUCache keeps a second dictionary, and a third for sizes: 60 bytes an entry each, and twice the time.
    """

    def __init__(self, settings: ReviewCacheSettings) -> None:
        self.units = 0
        self._most = settings.max_entries
        self._most_units = settings.max_bytes // UNIT_BYTES
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._used = self._entries.move_to_end

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> _Entry | None:
        """Return an entry; it is the last used now."""
        entry = self._entries.get(key)
        if entry is not None:
            self._used(key)
        return entry

    def add(self, key: Hashable, entry: _Entry) -> None:
        """Add an entry for a key that has none, if it fits at all; the least recently used make room."""
        if self._most < 1 or entry.units > self._most_units:
            return
        self._entries[key] = entry
        self.units += entry.units
        while len(self._entries) > self._most or self.units > self._most_units:
            self._let_go(self._entries.popitem(last=False)[1])

    def remove(self, key: Hashable) -> None:
        """Remove the entry of a key, if there is one."""
        if entry := self._entries.pop(key, None):
            self._let_go(entry)

    def _let_go(self, entry: _Entry) -> None:
        entry.fresh_until = -math.inf  # what rests on it must be asked again
        self.units -= entry.units


class KeptReviews:
    """A bounded memory of answers; `clock` is monotonic and `wall` Unix time, both in seconds."""

    def __init__(
        self,
        settings: ReviewCacheSettings,
        generations: Generations,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._settings = settings
        self.generations = generations
        self.clock = clock
        self._wall = wall
        self._entries = _Entries(settings)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """How much memory the answers take, as estimated."""
        return self._entries.units * UNIT_BYTES

    def get(self, key: Hashable, subject: Subject, attributes: Attributes) -> Review | None:
        """Return the kept answer to a question if it may serve now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self.clock()
        known = entry.epoch == self.generations.epoch and now < entry.fresh_until
        if known or (self._renew(entry, subject, attributes) and now < entry.fresh_until):
            return Review(attributes, entry.allowed, cached=True, ground=entry)
        return None

    def stale(self, key: Hashable, subject: Subject, attributes: Attributes) -> Review | None:
        """Return the kept answer if it may serve because there is no new one: an allow within `maxStale`."""
        entry = self._entries.get(key)
        if entry is None or not entry.allowed or self.clock() >= entry.stale_until:
            return None
        unchanged = self.generations.unchanged_since(entry.epoch, subject, attributes)
        return Review(attributes, allowed=True, cached=True) if unchanged else None

    def may_join(self, question: Question) -> bool:
        """Tell whether the answer to a review under way may serve somebody who asks only now."""
        change = self.generations.latest(question.subject, question.attributes)
        settled_at = self._settled_at(change)
        return change.epoch <= question.epoch and (question.sent >= settled_at or self.clock() < settled_at)

    def is_outdated(self, question: Question) -> bool:
        """Tell whether an answer comes too late: rights may have changed, and everybody must know it by now."""
        change = self.generations.latest(question.subject, question.attributes)
        return question.sent < self._settled_at(change) <= self.clock()

    def keep(self, question: Question, review: Review) -> None:
        """Remember an answer as long as it may serve, if at all. It supersedes what was kept."""
        change = self.generations.latest(question.subject, question.attributes)
        if change.epoch > question.epoch:
            return
        self._entries.remove(question.key)
        entry = self._entry(question, review, settled_at=self._settled_at(change))
        too_large = requester_bytes(question.attributes) >= MAX_REQUESTER_BYTES
        if not too_large and not review.evaluation_error:
            self._entries.add(question.key, entry)

    def _settled_at(self, change: Change) -> float:
        """Return when every API server must know of a change."""
        return change.at + self._settings.settling_seconds

    def _renew(self, entry: _Entry, subject: Subject, attributes: Attributes) -> bool:
        """Work out anew how long an entry may serve after all that has happened. False: no longer."""
        if not self.generations.unchanged_since(entry.epoch, subject, attributes):
            return False
        entry.epoch = self.generations.epoch
        entry.fresh_until = entry.expires
        if not self.generations.watched:
            entry.fresh_until = min(entry.expires, entry.sent + self._settings.ttl_without_watch_seconds)
        return True

    def _entry(self, question: Question, review: Review, *, settled_at: float) -> _Entry:
        settings = self._settings
        ttl = settings.allow_seconds if review.allowed else settings.deny_seconds
        credential_ends = self._credential_ends(question.subject)
        expires = min(question.sent + ttl, credential_ends)
        stale_until = question.sent
        if settings.max_stale_seconds:
            stale_until = min(question.sent + settings.max_stale_seconds, credential_ends)
        if question.sent < settled_at:
            expires = min(expires, settled_at)
            stale_until = min(stale_until, settled_at)
        return _Entry(self, review.allowed, _units(question), question.sent, question.epoch, expires, stale_until)

    def _credential_ends(self, subject: Subject) -> float:
        """Return when the credential ends, by the monotonic clock."""
        return math.inf if subject.expires is None else self.clock() + subject.expires - self._wall()


def _units(question: Question) -> int:
    """Estimate the size of an entry, its key included."""
    subject = question.subject
    extra = chain.from_iterable((name, *values) for name, values in subject.extra)
    texts = chain((subject.user, subject.uid), subject.groups, extra)
    size = ENTRY_BYTES + requester_bytes(question.attributes) + sum(map(sys.getsizeof, texts))
    return math.ceil(size / UNIT_BYTES)
