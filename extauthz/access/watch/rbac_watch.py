"""All RBAC resources together: one answer to whether every change is seen.

Promises: `Generations.watched` is true exactly while every resource is synced, so answers
that rest on what is not seen are short-lived; each state is told by `problems` and logged
when it changes; nothing that goes wrong ends the watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from extauthz.access.generations import Generations
from extauthz.access.kubernetes.connection import Connection
from extauthz.access.watch.feed import Feed
from extauthz.access.watch.follower import Follower, State, WatchCounts
from extauthz.access.watch.objects import KnownObjects
from extauthz.access.watch.resources import RBAC, RESOURCES, Sink
from extauthz.settings import WatchSettings


class RbacWatch:
    """Watches RBAC and raises generations.

    `sink` is told every RBAC object, before the generations are raised; `namespaces` every Namespace.
    """

    def __init__(
        self,
        connection: Connection,
        settings: WatchSettings,
        generations: Generations,
        *,
        settling_seconds: float,
        sink: Sink | None = None,
        namespaces: Sink | None = None,
    ) -> None:
        self.counts = WatchCounts()
        self._generations = generations
        self._pulse = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._followers = [
            Follower(
                resource.plural,
                Feed(
                    resource,
                    connection,
                    KnownObjects(resource, generations, sink if resource.api_version == RBAC else namespaces),
                ),
                settings,
                self.counts,
                settling_seconds=settling_seconds,
                changed=self._changed,
            )
            for resource in RESOURCES
        ]

    @property
    def states(self) -> Mapping[str, State]:
        """The state of each resource by its plural name."""
        return {follower.name: follower.state for follower in self._followers}

    @property
    def ages(self) -> Mapping[str, float]:
        """How many seconds ago the API server last showed that each resource's watch lives."""
        now = asyncio.get_running_loop().time()
        return {follower.name: now - follower.heard_at for follower in self._followers}

    def problems(self) -> list[str]:
        """Say what is not synced and why; empty while every change is seen."""
        return [
            f"RBAC watch of {follower.name} is {follower.state}: {follower.detail}"
            for follower in self._followers
            if follower.state is not State.SYNCED
        ]

    def start(self) -> None:
        """Begin to watch, in background tasks."""
        self._tasks = [
            asyncio.create_task(follower.run(), name=f"watch {follower.name}") for follower in self._followers
        ]

    async def close(self) -> None:
        """Stop watching; from now on nothing is seen."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._generations.watched = False

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is looked at after every event, connect and state change."""
        while not condition():
            await self._pulse.wait()

    def _changed(self) -> None:
        self._generations.watched = all(follower.state is State.SYNCED for follower in self._followers)
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()
