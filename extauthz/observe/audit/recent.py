"""The decisions of the last moments, in memory, for whoever looks on: a bounded ring.

Promises: readers never hold up a decision, and a slow one misses records instead of
collecting them. Refusals are all kept; of allows only so many a second that a busy gateway
does not notice.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice

from extauthz.decision import Decision
from extauthz.observe.audit.record import AuditRecord

MAX_RECORDS = 1000
ALLOWS_PER_SECOND = 50

Numbered = tuple[int, AuditRecord]


class RecentDecisions:
    """Remembers records under ascending numbers, from 1. `clock` is monotonic, in seconds."""

    def __init__(self, max_records: int = MAX_RECORDS, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._records: deque[Numbered] = deque(maxlen=max_records)
        self._clock = clock
        self._last = 0
        self._news = asyncio.Event()
        self._second = 0
        self._allows = 0

    @property
    def last(self) -> int:
        """The number of the latest record; 0 while there is none."""
        return self._last

    def wants(self, decision: Decision) -> bool:
        """Whether a decision is to be remembered."""
        if not decision.allowed:
            return True
        second = int(self._clock())
        if second != self._second:
            self._second, self._allows = second, 0
        self._allows += 1
        return self._allows <= ALLOWS_PER_SECOND

    def add(self, record: AuditRecord) -> None:
        """Remember a record and wake whoever follows."""
        self._last += 1
        self._records.append((self._last, record))
        self._news.set()

    def since(self, number: int = 0) -> list[Numbered]:
        """Return the remembered records after that number, oldest first."""
        new = min(max(self._last - number, 0), len(self._records))
        return list(islice(self._records, len(self._records) - new, None))

    async def follow(self, number: int = 0) -> AsyncIterator[Numbered]:
        """Yield the records after that number, then each further one, as far as the reader keeps up."""
        while True:
            for numbered in self.since(number):
                number = numbered[0]
                yield numbered
            if self._last == number:
                self._news.clear()
                await self._news.wait()
