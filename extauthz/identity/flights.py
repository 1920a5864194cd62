"""One question at a time for each key: whoever asks meanwhile gets the same answer.

What is under way is bounded; a caller that goes away does not end it for the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from extauthz.errors import Unavailable

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Flights(Generic[Key, Value]):
    """Shares answers among those who wait for them; keeps none. It belongs to one event loop."""

    def __init__(self, limit: int, full: Callable[[], Unavailable]) -> None:
        """`full` makes the error where `limit` questions are under way, and for those cut short."""
        self._limit = limit
        self._full = full
        self._tasks: dict[Key, asyncio.Task[Value]] = {}

    async def join(self, key: Key, ask: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """Return the answer of the question under way, or of a new one. Raises what `ask` raises."""
        task = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= self._limit:
                raise self._full()
            task = self._tasks[key] = asyncio.create_task(ask())
            task.add_done_callback(lambda task: self._landed(key, task))
        await asyncio.wait([task])  # unlike awaiting the task, this does not cancel it with its caller
        if task.cancelled():
            raise self._full()
        return task.result()

    async def close(self) -> None:
        """End all questions; those who wait get the error of a full house."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: Key, task: asyncio.Task[Value]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # read, so that nobody is told of an error that nobody waited for
