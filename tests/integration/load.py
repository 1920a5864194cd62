"""An open-loop load: requests come at their rate, however long answers take."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from tests.integration.cluster import Clients, runs

PER_SECOND = 300
ASKED = tuple(itertools.product(("alice", "bob", "mallory"), "ab"))
ENTITLED = {("alice", "a"), ("bob", "b")}


@dataclass(frozen=True, slots=True)
class Record:
    """One request and its status; `number` tells in which order they were sent."""

    number: int
    who: str
    team: str
    new: bool
    status: int

    @property
    def passed(self) -> bool:
        return self.status == 200


class OpenLoop:
    """Sends request number 0, 1, 2, … at the rate; a subclass says what each asks."""

    per_second = PER_SECOND

    def __init__(self) -> None:
        self.sent = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._pulse = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Send until the block ends, then wait for every answer."""
        sending = asyncio.create_task(self._send())
        try:
            yield self
        finally:
            sending.cancel()
            await asyncio.gather(sending, *self._tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is looked at after every answer."""
        while not condition():
            await self._pulse.wait()

    async def ask(self, number: int) -> None:
        """Send one request and note what became of it."""
        raise NotImplementedError

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in itertools.count():
            await asyncio.sleep(began + number / self.per_second - loop.time())
            self.sent = number + 1
            task = asyncio.create_task(self._ask(number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, number: int) -> None:
        await self.ask(number)
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()


class Load(OpenLoop):
    """Users with and without rights ask for runs, which may be remembered, and for notebooks never asked before."""

    def __init__(self, clients: Clients, sample: Callable[[], int]) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.samples: set[int] = set()
        """What `sample` said at each answer."""
        self._sample = sample
        self._clients = clients

    async def more(self, count: int) -> None:
        """Wait for the answers to so many requests that are still to be sent."""
        first = self.sent
        await self.until(lambda: sum(record.number >= first for record in self.records) >= count)

    def since(self, number: int) -> list[Record]:
        """Return what became of the requests from `number` on."""
        return [record for record in self.records if record.number >= number]

    async def ask(self, number: int) -> None:
        """Ask as one of the users, in one of the modes."""
        who, team = ASKED[number // 2 % len(ASKED)]
        new = number % 2 == 1
        path = f"/notebook/team-{team}/nb-{number}/" if new else runs(team)
        status = await self._clients.status(who, path, mode="grpc" if number % 4 < 2 else "http")
        self.records.append(Record(number, who, team, new, status))
        self.samples.add(self._sample())
