"""An API server that is killed, hangs or is slow, under 300 requests a second through Envoy.

Whatever happens, nobody passes whom the server would not have let pass, what waits is
bounded, the trouble can be seen, and it ends by itself.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector

from extauthz.access.authority import Cluster
from extauthz.demo.mesh import DemoMesh
from tests.apiserver.cluster import write_kubeconfig
from tests.apiserver.tokens import EXTAUTHZ
from tests.integration.cluster import Clients, api_server, owner, ready, settings
from tests.integration.conftest import MeshFactory
from tests.integration.load import ASKED, ENTITLED, Load

CONCURRENT, QUEUED = 16, 64
LIMITS = {
    "timeoutSeconds": 1,
    "maxConcurrentReviews": CONCURRENT,
    "maxReviewsPerUser": 8,
    "maxQueuedReviews": QUEUED,
    "cache": {"ttlWithoutWatchSeconds": 0},
}
WINDOW = 300
"""How many requests to look at in each state: one second's."""
IN_A_ROW = WINDOW // len(ASKED)
RECOVERY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Scene:
    """A mesh under load."""

    mesh: DemoMesh
    authority: Cluster
    load: Load
    session: ClientSession

    async def warnings(self) -> str:
        """Return what /readyz warns of; the service must be ready."""
        async with self.session.get(f"{self.mesh.admin_url}/readyz") as response:
            assert response.status == 200
            return "\n".join((await response.json())["warnings"])

    async def metrics(self) -> str:
        async with self.session.get(f"{self.mesh.admin_url}/metrics") as response:
            assert response.status == 200
            return await response.text()

    def serves(self, who: str, team: str, since: int) -> bool:
        """Whether a second's requests of somebody, one after the other, have all passed."""
        records = sorted(self.load.since(since), key=lambda record: record.number)
        asked = [record.passed for record in records if (record.who, record.team) == (who, team)]
        return len(asked) >= IN_A_ROW and all(asked[-IN_A_ROW:])

    async def recovered(self) -> int:
        """Wait until a right is granted that was never asked for before; return from which request on to look."""
        first = self.load.sent
        await self.load.until(lambda: any(record.passed and record.new for record in self.load.since(first)))
        await self.authority.watch.wait_until(lambda: not self.authority.watch.problems())
        assert await self.warnings() == ""
        return self.load.sent


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """A client that never waits for a free connection."""
    async with ClientSession(connector=TCPConnector(limit=0)) as client:
        yield client


@asynccontextmanager
async def scene(new_mesh: MeshFactory, session: ClientSession, kubeconfig: Path) -> AsyncIterator[Scene]:
    """Start a mesh and its load; in the end, hold what must hold always."""
    async with new_mesh(settings=settings(kubeconfig, **LIMITS)) as mesh:
        authority = await ready(mesh)
        limiter = authority.reviews.limiter
        async with Load(Clients(mesh, session), lambda: limiter.waiting).running() as load:
            await load.more(WINDOW)
            assert {(record.who, record.team) for record in load.records if record.passed} == ENTITLED
            yield Scene(mesh, authority, load, session)
        passed = {(record.who, record.team) for record in load.records if record.passed}
        assert passed == ENTITLED
        assert {record.status for record in load.records} <= {200, 403, 503}
        assert len(load.records) == load.sent
        assert max(load.samples) <= QUEUED
        assert (limiter.running, limiter.waiting) == (0, 0)
        assert authority.cached._flights == {}


async def test_killed_and_started_again(tmp_path: Path, new_mesh: MeshFactory, session: ClientSession) -> None:
    """While the server is dead nobody passes; a right that was revoked meanwhile never comes back."""
    async with api_server(tmp_path) as (process, server):
        kubeconfig, port = server.kubeconfig(), int(server.url.rpartition(":")[2])
        async with scene(new_mesh, session, kubeconfig) as now:
            process.kill()
            await now.authority.watch.wait_until(lambda: "down" in now.authority.watch.states.values())
            dead = now.load.sent
            await now.load.more(WINDOW)
            assert {record.status for record in now.load.since(dead)} == {503}
            warnings, metrics = await now.warnings(), await now.metrics()
            assert "RBAC watch of rolebindings is down" in warnings
            assert "the API server does not answer reviews" in warnings
            assert 'extauthz_watch_state{resource="rolebindings",state="down"} 1.0' in metrics
            assert 'extauthz_authorizer_breaker_state{state="closed"} 0.0' in metrics
            async with api_server(tmp_path, port=port, without=[owner("a")]):
                back = await now.recovered()
                await now.load.more(WINDOW)
                assert [record for record in now.load.since(dead) if record.passed and record.who == "alice"] == []
                await asyncio.wait_for(now.load.until(lambda: now.serves("bob", "b", back)), RECOVERY_SECONDS)


async def test_hanging(tmp_path: Path, new_mesh: MeshFactory, session: ClientSession) -> None:
    """A server that stops answering costs refusals of what is not known; a revocation counts as soon as it goes on."""
    async with api_server(tmp_path) as (process, server), scene(new_mesh, session, server.kubeconfig()) as now:
        process.send_signal(signal.SIGSTOP)
        await now.load.until(lambda: now.authority.reviews.breaker.state != "closed")
        hung = now.load.sent
        revoking = asyncio.create_task(server.delete(owner("a")))
        await now.load.more(WINDOW)
        assert {record.status for record in now.load.since(hung) if record.new} == {503}
        assert "the API server does not answer reviews" in await now.warnings()
        assert 'extauthz_authorizer_breaker_state{state="closed"} 0.0' in await now.metrics()
        events = now.authority.watch.counts.lines
        process.send_signal(signal.SIGCONT)
        await revoking
        await now.authority.watch.wait_until(lambda: now.authority.watch.counts.lines > events)
        revoked = now.load.sent
        await now.recovered()
        await now.load.more(WINDOW)
        assert [record for record in now.load.since(revoked) if record.passed and record.who == "alice"] == []


class Relay:
    """Stands before a server and holds back what it says for `seconds`."""

    def __init__(self, port: int) -> None:
        self.seconds = 0.0
        self._port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        answers, questions = await asyncio.open_connection("127.0.0.1", self._port)
        ways = [asyncio.ensure_future(self._pass(reader, questions, slow=False))]
        ways.append(asyncio.ensure_future(self._pass(answers, writer, slow=True)))
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        questions.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, slow: bool) -> None:
        while content := await source.read(65536):
            if slow:
                await asyncio.sleep(self.seconds)
            target.write(content)
            await target.drain()


async def test_slow(tmp_path: Path, new_mesh: MeshFactory, session: ClientSession) -> None:
    """A server too slow for the load is asked no more than its limit; who cannot wait is refused, until it is fast."""
    async with api_server(tmp_path) as (_, server):
        relay = Relay(int(server.url.rpartition(":")[2]))
        listening = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        kubeconfig = write_kubeconfig(tmp_path / "relayed", {"server": address}, {"token": EXTAUTHZ})
        async with listening, scene(new_mesh, session, kubeconfig) as now:
            relay.seconds = 0.4
            slow = now.load.sent
            await now.load.until(lambda: any(record.status == 503 for record in now.load.since(slow)))
            assert now.authority.reviews.limiter.running <= CONCURRENT
            while not re.search(r'reason="authorizer_(overloaded|timeout)"', await now.metrics()):
                pass  # on a busy machine others are refused first, who waited too long for something else
            await now.load.more(WINDOW)
            relay.seconds = 0
            back = await now.recovered()
            await now.load.until(lambda: now.authority.reviews.limiter.waiting == 0)
            await now.load.more(WINDOW)
            assert any(record.passed for record in now.load.since(back))
