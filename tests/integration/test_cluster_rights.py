"""A cluster decides, through a real Envoy: the demo's table, and rights that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from extauthz.demo.mesh import DemoMesh
from extauthz.demo.scenario import verify
from extauthz.errors import ConfigurationError
from tests.apiserver import Double, answer
from tests.apiserver.manifests import binding, user
from tests.integration.cluster import (
    Clients,
    authority_of,
    double,
    event,
    mesh,
    owner,
    ready,
    runs,
    settings,
)
from tests.integration.conftest import MeshFactory

__all__ = ["double", "mesh"]


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """An HTTP client of this test's own event loop."""
    async with ClientSession() as client:
        yield client


async def test_the_demo_table_holds(mesh: DemoMesh, session: ClientSession) -> None:
    """Every promise of the demo holds when the API server answers, in both modes."""
    results = await verify(session, mesh)
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("mode", ["grpc", "http"])
async def test_a_deleted_rolebinding_refuses_the_next_request(
    double: Double, mesh: DemoMesh, session: ClientSession, mode: str
) -> None:
    """A kept allow ends with the watch's event; once granted again, the next request passes."""
    clients, authority = Clients(mesh, session), authority_of(mesh)
    assert [await clients.status("alice", runs("a"), mode=mode) for _ in range(2)] == [200, 200]
    assert authority.cached.counts.hits == 1
    double.erase(owner("a"))
    await event(authority, "alice")
    assert await clients.status("alice", runs("a"), mode=mode) == 403
    double.write(owner("a"))
    await event(authority, "alice")
    assert await clients.status("alice", runs("a"), mode=mode) == 200


async def test_a_new_grant_passes_the_next_request(double: Double, mesh: DemoMesh, session: ClientSession) -> None:
    """A kept denial ends with the event of a RoleBinding, and of a ClusterRoleBinding."""
    clients, authority = Clients(mesh, session), authority_of(mesh)
    for more in (
        binding("more", "kubeflow-view", user("mallory@example.com"), namespace="team-a"),
        binding("more", "kubeflow-view", user("mallory@example.com")),
    ):
        assert await clients.status("mallory", runs("a")) == 403
        double.write(more)
        await event(authority, "mallory")
        assert await clients.status("mallory", runs("a")) == 200
        double.erase(more)
        await event(authority, "mallory")


async def test_ready_once_the_first_review_is_answered(
    double: Double, new_mesh: MeshFactory, session: ClientSession
) -> None:
    """/readyz says what is missing until then, and what is wrong afterwards; checks are refused, not held for ever."""
    with double.held_answers() as gate:
        async with new_mesh(settings=settings(double.kubeconfig())) as mesh:
            async with session.get(f"{mesh.admin_url}/readyz") as response:
                assert response.status == 503
                blockers = (await response.json())["blockers"]
            assert blockers[0].startswith("the API server has not answered a review yet")
            gate.open()
            await ready(mesh)
            async with session.get(f"{mesh.admin_url}/readyz") as response:
                assert (response.status, await response.json()) == (
                    200,
                    {"ready": True, "blockers": [], "warnings": []},
                )
            with double.fault("/rolebindings", answer(403)):
                authority = authority_of(mesh)
                double.objects.drop_watches()
                await authority.watch.wait_until(lambda: bool(authority.watch.problems()))
                await authority.watch.wait_until(lambda: authority.watch.states["rolebindings"] == "forbidden")
                async with session.get(f"{mesh.admin_url}/readyz") as response:
                    assert response.status == 200
                    warnings = (await response.json())["warnings"]
                assert any("grant extauthz list and watch of rolebindings" in warning for warning in warnings)


async def test_a_missing_kubeconfig_ends_the_start_with_a_sentence(tmp_path: Path, new_mesh: MeshFactory) -> None:
    """A service that cannot know its cluster does not come up, names the file, and leaves nothing running."""
    running = asyncio.all_tasks()
    with pytest.raises(ConfigurationError, match=r"gone.*kubeconfig cannot be used"):
        async with new_mesh(settings=settings(tmp_path / "gone")):
            pytest.fail("it came up")
    assert asyncio.all_tasks() == running
