"""The console, and the owner that a refusal names, where a cluster decides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, DummyCookieJar

from extauthz.access.watch.follower import State
from extauthz.demo.mesh import DemoMesh
from tests.apiserver import Double, answer
from tests.integration.cluster import authority_of, demo_manifests, double, mesh, runs, settings
from tests.integration.conftest import MeshFactory
from tests.integration.visitor import Visitor

__all__ = ["double", "mesh"]


@pytest.fixture
async def visitor(mesh: DemoMesh) -> AsyncIterator[Visitor]:
    """Somebody who opens that mesh's console."""
    async with ClientSession(cookie_jar=DummyCookieJar()) as client:
        yield Visitor(mesh, client)


async def test_a_right_that_is_revoked_ends_at_once(double: Double, mesh: DemoMesh, visitor: Visitor) -> None:
    """The next page is refused, though the token is as good as before."""
    (binding,) = (each for each in demo_manifests() if each["metadata"]["name"] == "kubeflow-platform-admins")
    assert [(await visitor.get("/", **visitor.cookie("admin")))[0] for _ in range(2)] == [200, 200]
    authority = authority_of(mesh)
    seen = authority.watch.counts.lines
    double.erase(binding)
    await authority.watch.wait_until(lambda: authority.watch.counts.lines > seen)
    assert (await visitor.get("/", **visitor.cookie("admin")))[0] == 403


async def test_the_overview_tells_how_reviews_cache_and_watch_are(visitor: Visitor) -> None:
    """Each with its state in a word."""
    status, text, _ = await visitor.get("/", **visitor.bearer("admin"))
    assert status == 200
    for words in ("circuit breaker closed", "Review cache", "rolebindings", ">synced<"):
        assert words in text


async def test_a_watch_that_does_not_see_everything_is_told(double: Double, new_mesh: MeshFactory) -> None:
    """With its cause, on the overview and as a warning."""
    with double.fault("/roles", answer(403)):
        async with new_mesh(settings=settings(double.kubeconfig())) as mesh, ClientSession() as client:
            authority = authority_of(mesh)
            await authority.answered.wait()
            await authority.watch.wait_until(lambda: authority.watch.states["roles"] is State.FORBIDDEN)
            visitor = Visitor(mesh, client)
            _, text, _ = await visitor.get("/", **visitor.bearer("admin"))
    assert "not synced" in text
    assert "Ready, with warnings" in text
    assert "grant extauthz list and watch of roles" in text


async def test_without_an_answer_there_is_no_page(double: Double, visitor: Visitor) -> None:
    """An outage opens nothing."""
    with double.fault("/subjectaccessreviews", answer(500)):
        status, text, response = await visitor.get("/", **visitor.bearer("bob"))
    assert (status, response.headers["retry-after"]) == (503, "3")
    assert "<table" not in text


async def test_the_owner_follows_the_namespace(double: Double, mesh: DemoMesh) -> None:
    """Whoever the annotation names now is named to those who are refused."""
    authority = authority_of(mesh)
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "team-a", "annotations": {"owner": "zoe@example.com"}},
    }
    double.write(namespace)
    await authority.watch.wait_until(lambda: authority.owner("team-a") == "zoe@example.com")
    token = mesh.signer.sign("bob@example.com")
    async with (
        ClientSession() as client,
        client.get(mesh.urls["grpc"] + runs("a"), headers={"authorization": f"Bearer {token}"}) as response,
    ):
        causes = json.loads(await response.text())["details"]["causes"]
    assert {"reason": "owner", "message": "zoe@example.com"} in causes
    double.erase(namespace)
    await authority.watch.wait_until(lambda: authority.owner("team-a") == "")
