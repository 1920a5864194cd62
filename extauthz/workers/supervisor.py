"""The life of several workers: start, hand connections over, start again, stop.

Promises: serving workers get connections in turn; a worker that ends is started again, with the
settings that were read at the start; ready means that all of them are; and when this process goes,
they finish their checks and go, too. Checks of a worker that was killed fail closed: Envoy gets no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket

from extauthz.background import keep_running
from extauthz.edge.admin import AdminEdge
from extauthz.edge.listen import Bound, bind
from extauthz.errors import ConfigurationError, Problem
from extauthz.loading import load_certificates
from extauthz.settings import Settings
from extauthz.workers.admin import Workforce
from extauthz.workers.worker import Worker

PAUSE_SECONDS = 0.5
"""The pause before a worker that never served is started again; it doubles each time."""
MAX_PAUSE_SECONDS = 30.0
STOP_SECONDS = 20.0
"""How much longer than their grace workers may take to end before they are killed."""
CONFIGURATION_ERROR = 2

_logger = logging.getLogger(__name__)


class Supervisor:
    """Serves with `settings.workers` processes. Ports are known after `start`."""

    def __init__(self, settings: Settings, *, log_level: str = "info") -> None:
        self._settings = settings
        self._log_level = log_level
        listeners = settings.listeners
        edges = {"grpc": listeners.grpc, "http": listeners.http}
        self._addresses = {name: edge.address for name, edge in edges.items() if edge}
        self._sockets: dict[str, socket.socket] = {}
        self._turns = {name: itertools.count() for name in edges}
        self._handing_over = False
        self._keepers: list[asyncio.Task[None]] = []
        self._complete = asyncio.Event()
        self._stopping = asyncio.Event()
        self.draining = False
        self._certificates = load_certificates(settings).get("admin")
        workforce = Workforce(self)
        self._admin = AdminEdge(
            Bound(listeners.admin.address, self._certificates),
            readiness=workforce.readiness,
            metrics=workforce.exposition,
        )
        self._following: asyncio.Task[None] | None = None
        self.workers: dict[int, Worker] = {}
        """By their numbers; without those that are not running."""
        self.restarts = 0

    @property
    def numbers(self) -> range:
        """The numbers of all workers, from 1."""
        return range(1, self._settings.workers + 1)

    @property
    def stopping(self) -> bool:
        """Whether the end has begun."""
        return self._stopping.is_set()

    @property
    def grpc_port(self) -> int | None:
        """The gRPC edge's port, or None where it is off."""
        return self._port("grpc")

    @property
    def http_port(self) -> int | None:
        """The HTTP edge's port, or None where it is off."""
        return self._port("http")

    @property
    def admin_port(self) -> int:
        """The admin listener's port."""
        return self._admin.port

    async def start(self) -> None:
        """Listen, and return once every worker serves. Raises ConfigurationError."""
        await self._admin.start()
        if self._certificates:
            following = keep_running("certificates of admin", self._certificates.run)
            self._following = asyncio.create_task(following)
        for name, address in self._addresses.items():
            self._sockets[name] = bind(address)
            self._sockets[name].setblocking(False)
        self._keepers = [asyncio.create_task(self._keep(number)) for number in self.numbers]
        complete = asyncio.create_task(self._complete.wait())
        done, _ = await asyncio.wait([complete, *self._keepers], return_when=asyncio.FIRST_COMPLETED)
        complete.cancel()
        for ended in done - {complete}:
            await ended  # a worker that cannot start raises

    async def drain(self, hurry: asyncio.Event) -> None:
        """Say that this is not ready, but serve until Envoys have turned away: `drainSeconds`, or `hurry`."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.shutdown.drain_seconds):
                await hurry.wait()

    async def stop(self) -> None:
        """Let every worker finish its checks, then release everything."""
        self._stopping.set()
        for worker in self.workers.values():
            worker.terminate()
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=self._settings.shutdown.grace_seconds + STOP_SECONDS)
        for worker in self.workers.values():
            worker.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for listening in self._sockets.values():
            listening.close()
        if self._following:
            self._following.cancel()
        await self._admin.stop()

    def _port(self, name: str) -> int | None:
        return self._sockets[name].getsockname()[1] if name in self._sockets else None

    async def _keep(self, number: int) -> None:
        """Run a worker, again and again. Raises ConfigurationError where the first one cannot start."""
        pause = 0.0
        while not self.stopping:
            code, served = await self._run(number)
            if self.stopping:
                return
            if code == CONFIGURATION_ERROR and not self._complete.is_set():
                raise ConfigurationError(Problem(f"worker {number} cannot start: it says why above"))
            self.restarts += 1
            pause = 0.0 if served else min(max(2 * pause, PAUSE_SECONDS), MAX_PAUSE_SECONDS)
            _logger.error("worker %s ended with exit code %s; it starts again in %s s", number, code, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run(self, number: int) -> tuple[int, bool]:
        """Run a worker until it ends; return its exit code, and whether it ever served."""
        worker = await Worker.start(self._settings, self._log_level, changed=self._changed)
        self.workers[number] = worker
        if self.stopping:
            worker.terminate()
        code = await worker.process.wait()
        del self.workers[number]
        worker.close()
        self._changed()
        return code, worker.served

    def _changed(self) -> None:
        """Accept connections while there is somebody to hand them to; until then they wait in the kernel's queue."""
        serving = [worker for worker in self.workers.values() if worker.serving]
        if len(serving) == self._settings.workers:
            self._complete.set()
        if bool(serving) is self._handing_over:
            return
        self._handing_over = bool(serving)
        loop = asyncio.get_running_loop()
        for name, listening in self._sockets.items():
            if serving:
                loop.add_reader(listening.fileno(), self._accept, name, listening)
            else:
                loop.remove_reader(listening.fileno())

    def _accept(self, name: str, listening: socket.socket) -> None:
        """Accept one connection; the loop calls again while there are more."""
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = listening.accept()
            if not self._hand_over(name, connection):
                _logger.error("no worker takes connections: one is closed")
                connection.close()

    def _hand_over(self, name: str, connection: socket.socket) -> bool:
        serving = [worker for _, worker in sorted(self.workers.items()) if worker.serving]
        turn = next(self._turns[name])
        return any(serving[(turn + more) % len(serving)].take(name, connection) for more in range(len(serving)))
