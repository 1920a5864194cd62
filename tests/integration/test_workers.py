"""Several processes behind one port: how they share, what becomes of checks when one ends, and how all end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError, ClientSession
from prometheus_client.parser import text_string_to_metric_families as parse

from extauthz.demo.envoy import Envoy, EnvoyConfig
from extauthz.demo.upstream import Upstream
from tests.authority import Authority
from tests.integration.test_serve import Serving, ended, serving, start, token, write_settings
from tests.issuer import Issuer, KeyServer, rsa_key

WORKERS = 2
MODES = ("grpc", "http")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc; run it on Linux")


@pytest.fixture
async def keys() -> AsyncIterator[KeyServer]:
    """The issuer's key server."""
    async with KeyServer(Issuer()) as server:
        yield server


def change(file: Path, **changes: Any) -> Path:
    """Lay values over a settings file."""
    content = yaml.safe_load(file.read_text())
    for edge in MODES:
        content["listeners"][edge]["server"] = "native"
    file.write_text(yaml.safe_dump({**content, **changes}))
    return file


@pytest.fixture
def settings(tmp_path: Path, keys: KeyServer) -> Path:
    """Settings with two workers."""
    return change(write_settings(tmp_path, f"{keys.url}/jwks"), workers=WORKERS)


def workers_of(service: Serving) -> set[int]:
    """Return the processes of the workers."""
    pid = service.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def runs(worker: int) -> bool:
    """Tell whether a process has not ended."""
    return Path(f"/proc/{worker}").exists()


def wait_for_the_end(worker: int) -> None:
    """Wait until a process that is not our child has ended."""
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(worker)], [], [])


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Ask over an open connection; tell whether it was answered, or else has ended."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        writer.write(b"GET /app HTTP/1.1\r\nhost: k\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head)[0]))
        return head.startswith(b"HTTP/1.1 401")
    return False


class Mesh:
    """Workers behind Envoy, and users who ask through it."""

    def __init__(self, service: Serving, envoy: Envoy, client: ClientSession) -> None:
        self.service = service
        self._urls = {"grpc": envoy.grpc_url, "http": envoy.http_url}
        self._client = client

    async def status(self, mode: str, headers: Mapping[str, str]) -> int:
        """Return what a user gets who asks for the guarded page."""
        async with self._client.get(f"{self._urls[mode]}/app", headers=headers) as response:
            return response.status

    async def admin(self, path: str) -> tuple[int, str]:
        """Ask the admin listener."""
        async with self._client.get(f"http://127.0.0.1:{self.service.ports['admin']}{path}") as response:
            return response.status, await response.text()

    async def ready(self) -> None:
        """Wait until every worker serves."""
        while (await self.admin("/readyz"))[0] != 200:
            pass  # each of them is asked, which takes its time

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return all samples by name and labels."""
        families = parse((await self.admin("/metrics"))[1])
        samples = (sample for family in families for sample in family.samples)
        return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}

    async def decisions(self, outcome: str) -> float:
        """Return how many decisions had an outcome."""
        return sum(
            value
            for (name, labels), value in (await self.metrics()).items()
            if name == "extauthz_decisions_total" and ("outcome", outcome) in labels
        )

    async def replaced(self, gone: int) -> None:
        """Wait until a worker is gone, and all serve again."""
        while gone in workers_of(self.service) or len(workers_of(self.service)) < WORKERS:
            await self.admin("/healthz")
        await self.ready()


@asynccontextmanager
async def mesh(file: Path, folder: Path) -> AsyncIterator[Mesh]:
    """Run the service with its workers behind a real Envoy."""
    async with serving(file) as service, Upstream() as upstream, ClientSession() as client:
        config = EnvoyConfig(
            upstream_port=upstream.port,
            authz_grpc_port=service.ports["grpc"],
            authz_http_port=service.ports["http"],
            path_prefix="",
        )
        async with Envoy(config, folder) as envoy:
            running = Mesh(service, envoy, client)
            await running.ready()
            yield running


class Users:
    """For each mode, one who may pass and one who may not: each asks without a pause, one request after the other."""

    def __init__(self, running: Mesh) -> None:
        self._mesh = running
        self.statuses: dict[bool, list[int]] = {True: [], False: []}
        """What was answered, by whether it should pass."""

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask until the block ends, and wait for the last answers."""
        stop = asyncio.Event()
        asking = [asyncio.create_task(self._ask(stop, mode, may)) for mode in MODES for may in (True, False)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*asking)

    async def _ask(self, stop: asyncio.Event, mode: str, may: bool) -> None:
        while not stop.is_set():
            self.statuses[may].append(await self._mesh.status(mode, token() if may else {}))


async def test_one_admin_listener_speaks_for_all_workers(settings: Path, tmp_path: Path) -> None:
    """Ready means both; counts are summed and never fall, even when a worker is killed; gauges name their worker."""
    async with mesh(settings, tmp_path) as running:
        for _ in range(5):
            assert [await running.status(mode, token()) for mode in MODES] == [200, 200]
        assert await running.decisions("allow") == 10
        samples = await running.metrics()
        assert {samples["extauthz_ready", frozenset({("worker", str(number))})] for number in (1, 2)} == {1}
        killed = min(workers_of(running.service))
        os.kill(killed, signal.SIGSTOP)
        status, told = await running.admin("/readyz")
        assert (status, json.loads(told)["ready"]) == (503, False)
        assert "does not answer" in told
        os.kill(killed, signal.SIGKILL)
        await running.replaced(killed)
        assert await running.decisions("allow") == 10
        assert (await running.metrics())["extauthz_worker_restarts_total", frozenset()] == 1


async def test_a_worker_is_killed_under_load(settings: Path, tmp_path: Path) -> None:
    """Nobody passes who may not; who may is answered or refused with 503; once it is replaced, all are answered."""
    async with mesh(settings, tmp_path) as running:
        users = Users(running)
        async with users.asking():
            for killed in workers_of(running.service):  # one after the other, so that each one's connections are hit
                os.kill(killed, signal.SIGKILL)
                await running.replaced(killed)
        assert set(users.statuses[True]) <= {200, 503}
        assert set(users.statuses[False]) <= {401, 503}
        after = Users(running)
        async with after.asking():
            while min(map(len, after.statuses.values())) < 20:
                await running.admin("/healthz")
        assert {may: set(statuses) for may, statuses in after.statuses.items()} == {True: {200}, False: {401}}


async def test_workers_are_rotated_under_load(settings: Path, tmp_path: Path) -> None:
    """A worker that is told to stop finishes what it has and gives its connections back: no request is lost."""
    async with mesh(settings, tmp_path) as running:
        users = Users(running)
        async with users.asking():
            for rotated in workers_of(running.service):
                os.kill(rotated, signal.SIGTERM)
                await running.replaced(rotated)
        assert {may: set(statuses) for may, statuses in users.statuses.items()} == {True: {200}, False: {401}}


@pytest.mark.parametrize("mode", MODES)
async def test_a_check_on_a_killed_worker_fails_closed(
    settings: Path, tmp_path: Path, keys: KeyServer, mode: str
) -> None:
    """A check that would have passed is refused with 503 when its worker is killed while it waits for a key."""
    async with mesh(settings, tmp_path) as running:
        keys.issuer.keys.insert(0, rsa_key("key-2"))
        keys.fault = "slow"
        asked = asyncio.create_task(running.status(mode, token(keys.issuer)))
        await keys.arrived.wait()
        for worker in workers_of(running.service):
            os.kill(worker, signal.SIGKILL)
        assert await asked == 503
        keys.release.set()
        await running.ready()
        assert await running.status(mode, token(keys.issuer)) == 200


async def test_all_workers_finish_their_checks_before_the_end(settings: Path, tmp_path: Path, keys: KeyServer) -> None:
    """SIGTERM to the supervisor: a check that waits for a key still passes, then every process has ended."""
    async with mesh(settings, tmp_path) as running:
        keys.issuer.keys.insert(0, rsa_key("key-2"))
        keys.fault = "slow"
        asked = asyncio.create_task(running.status("grpc", token(keys.issuer)))
        await keys.arrived.wait()
        workers = workers_of(running.service)
        running.service.process.send_signal(signal.SIGTERM)
        while (await running.admin("/readyz"))[0] == 200:
            pass
        keys.release.set()
        assert await asked == 200
        code, log = await ended(running.service.process)
        assert (code, "Traceback" in log) == (0, False)
        assert not any(map(runs, workers))


async def test_workers_do_not_outlive_their_supervisor(settings: Path) -> None:
    """When the supervisor is killed, its workers end by themselves."""
    async with serving(settings) as service:
        workers = workers_of(service)
        assert len(workers) == WORKERS
        service.process.kill()
        await service.process.wait()
        for worker in workers:
            await asyncio.to_thread(wait_for_the_end, worker)


async def test_connections_are_given_out_in_turn(settings: Path) -> None:
    """Of four connections each worker has two: when one is killed, just two of them end."""
    async with serving(settings) as service:
        port = service.ports["http"]
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        assert all([await answered(*connection) for connection in opened])
        killed = min(workers_of(service))
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(wait_for_the_end, killed)
        alive = [await answered(*connection) for connection in opened]
        for _, writer in opened:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert sorted(alive) == [False, False, True, True]


async def test_workers_that_cannot_start_are_a_configuration_error(settings: Path) -> None:
    """Exit code 2, with file and line of what is wrong."""
    code, log = await ended(await start(change(settings, policy={"paths": ["missing.yaml"]})))
    assert code == 2
    assert "missing.yaml" in log
    assert "Traceback" not in log


def with_tls(file: Path) -> Path:
    """Let the HTTP edge and the admin listener speak TLS."""
    content = yaml.safe_load(file.read_text())
    for edge in ("http", "admin"):
        content["listeners"][edge]["tls"] = {"certFile": "tls.crt", "keyFile": "tls.key"}
    file.write_text(yaml.safe_dump(content))
    return file


async def test_tls_reaches_every_worker(settings: Path, tmp_path: Path) -> None:
    """Checks and the admin listener speak TLS, and nothing is answered in plain text."""
    authority = Authority()
    authority.issue("extauthz").write(tmp_path)
    async with serving(with_tls(settings)) as service:
        context = authority.client_context()
        for _ in range(2 * WORKERS):
            async with ClientSession() as client:  # a connection of its own each time: another worker's turn
                url = f"https://127.0.0.1:{service.ports['http']}/app"
                async with client.get(url, headers=token(), ssl=context) as response:
                    assert response.status == 200
        async with ClientSession() as client:
            async with client.get(f"https://127.0.0.1:{service.ports['admin']}/readyz", ssl=context) as response:
                assert (await response.json())["ready"]
            for edge in ("http", "admin"):
                with pytest.raises(ClientError):
                    await client.get(f"http://127.0.0.1:{service.ports[edge]}/readyz")
        assert (await service.stop())[0] == 0
