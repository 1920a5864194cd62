"""What an API server is spared, and what a flood costs it: reviews counted by the server itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, web

from bench.sar_economy import REVIEWS, SESSION, browse
from extauthz.demo.mesh import DemoMesh
from extauthz.errors import Unavailable
from extauthz.review import ResourceAttributes, Review
from extauthz.subject import Subject
from tests.apiserver import Double
from tests.integration.cluster import Clients, authority_of, demo_manifests, ready, runs, settings
from tests.integration.conftest import MeshFactory

LIST_RUNS = ResourceAttributes("list", "pipelines.kubeflow.org", "v1beta1", "runs", namespace="team-a")
USERS = 10_000
LIMITS: dict[str, int] = {"maxConcurrentReviews": 32, "maxQueuedReviews": 256, "timeoutSeconds": 30}


class Counting(Double):
    """A test API server that knows how many reviews it worked on at once."""

    working = most = 0

    async def _review(self, request: web.Request) -> web.Response:
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            await asyncio.sleep(0)  # let others in, as a server with threads does
            return await super()._review(request)
        finally:
            self.working -= 1


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Counting]:
    """The counting server, with the demo's rights."""
    server = Counting(tmp_path, None)
    await server.serve(None, 0)
    for manifest in demo_manifests():
        server.write(manifest)
    yield server
    await server.close()
    await server.stop()


@pytest.fixture
async def mesh(server: Counting, new_mesh: MeshFactory) -> AsyncIterator[DemoMesh]:
    """A mesh whose reviews are few and patient."""
    # The settling time after the first list outlasts each test: a review that straddles its end is joined by nobody.
    cache = {"maxEntries": 1000, "maxBytes": 4_000_000, "settlingSeconds": 60}
    patient = {**settings(server.kubeconfig(), cache=cache, **LIMITS), "deadlineSeconds": 30}
    async with new_mesh(settings=patient, envoy={"timeout_seconds": 30}) as mesh:
        await ready(mesh)
        server.calls.clear()
        yield mesh


@pytest.fixture
async def clients(mesh: DemoMesh) -> AsyncIterator[Clients]:
    """The demo's users, who may all ask at once."""
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        yield Clients(mesh, session)


async def test_a_thousand_identical_misses_are_one_review(server: Counting, mesh: DemoMesh, clients: Clients) -> None:
    """A thousand requests at once for one unknown right reach the API server as one review, and all pass."""
    counts = authority_of(mesh).cached.counts
    with server.held_answers() as gate:
        load = [asyncio.ensure_future(clients.status("alice", runs("a"))) for _ in range(1000)]
        while counts.misses + counts.joined < 1000 and not load[0].done():  # noqa: ASYNC110 (the service runs in this loop, and tells nobody)
            await asyncio.sleep(0)
        gate.open()
        statuses = Counter(await asyncio.gather(*load))
    assert statuses == {200: 1000}
    assert server.calls[REVIEWS] == 1
    assert (counts.misses, counts.joined) == (1, 999)


async def test_a_warm_session_costs_few_reviews(server: Counting, mesh: DemoMesh, clients: Clients) -> None:
    """A thousand requests of a Kubeflow UI session, ten identical ones at a time, cost at most ten reviews."""

    async def get(path: str) -> int:
        return await clients.status("alice", path)

    await browse(get, 1)
    assert server.calls[REVIEWS] == len(SESSION)
    server.calls.clear()
    assert await browse(get, 1000) >= 1000
    assert server.calls[REVIEWS] <= 10


async def test_a_flood_of_users_stays_within_all_bounds(server: Counting, mesh: DemoMesh) -> None:
    """Ten thousand users at once: the server is asked no more than its limit, and nothing grows without bound."""
    authority, outcomes = authority_of(mesh), Counter[str]()
    queues: set[int] = set()

    async def ask(number: int) -> None:
        asked = mesh.service.authority.review(Subject.authenticated(f"user-{number}"), LIST_RUNS)
        queues.add(authority.reviews.limiter.waiting)
        try:
            review = asked if isinstance(asked, Review) else await asked
            outcomes["allowed" if review.allowed else "denied"] += 1
        except Unavailable as error:
            outcomes[error.reason] += 1

    await asyncio.gather(*map(ask, range(USERS)))
    assert outcomes.keys() <= {"denied", "authorizer_overloaded"}
    assert outcomes.total() == USERS
    assert outcomes["denied"] == server.calls[REVIEWS]
    assert server.most <= LIMITS["maxConcurrentReviews"]
    assert max(queues) <= LIMITS["maxQueuedReviews"]
    assert (authority.reviews.limiter.running, authority.reviews.limiter.waiting) == (0, 0)
    assert authority.cached._flights == {}
    assert authority.cached._tasks == set()
    assert len(authority.cached.kept) <= 1000
    assert authority.cached.kept.bytes <= 4_000_000
