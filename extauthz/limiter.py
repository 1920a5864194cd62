"""How many questions may be under way: bounded in all, bounded per user, with a bounded queue.

A user who floods fills neither the slots nor the queue: beyond `per_user` slots he waits,
and beyond a quarter of the queue he is refused, while others pass him. Users who wait are
served in turn. Whoever finds the queue full is refused at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from extauthz.errors import Unavailable


class Limiter:
    """Slots for questions. Bound to the event loop of its first use. `full` makes the error for a full queue."""

    def __init__(self, *, concurrent: int, queued: int, per_user: int, full: Callable[[], Unavailable]) -> None:
        self._concurrent = concurrent
        self._queued = queued
        self._per_user = per_user
        self._full = full
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def slot(self, user: str, deadline: float) -> AsyncGenerator[None]:
        """Hold a slot for the block; wait for it until `deadline` in the loop's time.

        Raises Unavailable when the queue is full, TimeoutError at the deadline.
        """
        if self._free(user) and user not in self._waiting:
            self._take(user)
        else:
            await self._wait(user, deadline)
        try:
            yield
        finally:
            self._give_back(user)

    def _free(self, user: str) -> bool:
        return self.running < self._concurrent and self._running[user] < self._per_user

    def _take(self, user: str) -> None:
        self.running += 1
        self._running[user] += 1

    def _give_back(self, user: str) -> None:
        self.running -= 1
        self._running[user] -= 1
        if not self._running[user]:
            del self._running[user]
        self._serve_next()

    async def _wait(self, user: str, deadline: float) -> None:
        queue = self._waiting.get(user, ())
        if self.waiting >= self._queued or len(queue) >= max(1, self._queued // 4):
            raise self._full()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, deque()).append(turn)
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException:
            if turn.cancelled():
                self._leave(user, turn)
            else:  # the slot was given in the same moment
                self._give_back(user)
            raise

    def _serve_next(self) -> None:
        """Give free slots to the users whose turn it is; few can be at their bound, so the walk is short."""
        while self.running < self._concurrent:
            user = next((user for user in self._waiting if self._running[user] < self._per_user), None)
            if user is None:
                return
            turn = self._waiting[user][0]
            self._waiting.move_to_end(user)
            self._leave(user, turn)
            if not turn.cancelled():
                self._take(user)
                turn.set_result(None)

    def _leave(self, user: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(user, deque())
        if turn in queue:
            queue.remove(turn)
            self.waiting -= 1
        if not queue:
            self._waiting.pop(user, None)
