"""A real issuer, and sessions, behind a real Envoy."""

from __future__ import annotations

import asyncio
import functools
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from extauthz.demo.mesh import DemoMesh
from tests.integration.conftest import MeshFactory
from tests.integration.identities import ALICE, RUNS, mesh_in, settings, status, token
from tests.integration.provider import login, provider
from tests.issuer import Issuer, KeyServer, segment
from tests.oauth2proxy import COOKIE, OAuth2Proxy

PATIENCE_SECONDS = 60
"""How long a test waits for what must happen; a machine may stall for seconds."""
NAVIGATION = {"accept": "text/html", "sec-fetch-mode": "navigate"}


@pytest.fixture(name="new_mesh")
def _new_mesh(tmp_path: Path) -> MeshFactory:
    """Make a mesh with one rule, so that identity alone is at stake."""
    return functools.partial(mesh_in, tmp_path)


async def test_a_real_providers_users_log_in_and_its_restart_rotates_its_key(new_mesh: MeshFactory) -> None:
    """Discovery, login and verification; down, its users stay; with a new key, the old one's tokens end."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())
        async with provider() as address:
            keys = {"discovery": True, "refreshSeconds": 1, "cooldownSeconds": 1}
            mesh = await stack.enter_async_context(new_mesh(settings=settings(address, "kubeflow", keys)))
            first, second = await login(client, address, ALICE), await login(client, address, ALICE)
            stranger = await login(client, address, "mallory@example.com")
            assert await status(client, mesh.urls["grpc"], first) == 200
            assert await status(client, mesh.urls["http"], stranger) == 403
        assert await status(client, mesh.urls["grpc"], first) == 200
        forged = f"{second.rpartition('.')[0]}.{segment(b'x' * 256)}"
        assert await status(client, mesh.urls["grpc"], forged) == 401
        assert await status(client, mesh.urls["http"], second) == 200
        async with provider(port=int(address.rpartition(":")[2])) as again:
            assert again == address
            await _until(client, mesh, await login(client, address, ALICE), 200)
            assert await status(client, mesh.urls["grpc"], first) == 401


async def _until(client: aiohttp.ClientSession, mesh: DemoMesh, token: str, wanted: int) -> None:
    """Ask until the refresh has come round."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await status(client, mesh.urls["grpc"], token) != wanted:
            pass


@pytest.mark.parametrize("mode", ["grpc", "http"])
async def test_a_browser_session_passes_envoy(new_mesh: MeshFactory, mode: str) -> None:
    """302 to the login, then the page with the token upstream, refreshed cookies on both sides of a refusal."""
    async with OAuth2Proxy() as proxy, KeyServer(Issuer()) as server:
        server.issuer.name = server.url
        session = {"url": proxy.url, "cookie": COOKIE}
        keys = {"url": f"{server.url}/jwks"}
        configured = settings(server.url, server.issuer.audience, keys, session=session)
        async with new_mesh(settings=configured) as mesh, aiohttp.ClientSession() as client:
            url = mesh.urls[mode] + RUNS
            async with client.get(url, headers=NAVIGATION, allow_redirects=False) as response:
                assert response.status == 302
                back = parse_qs(urlsplit(response.headers["location"]).query)["rd"]
                assert back == [RUNS]
            async with client.get(url, headers={"accept": "application/json"}) as response:
                assert response.status == 401
                assert "location" not in response.headers
            proxy.sessions["one"] = token(server.issuer)
            proxy.refreshed = [f"{COOKIE}=new; Path=/", f"{COOKIE}_1=er; Path=/"]
            cookie = {"cookie": f"theme=dark; {COOKIE}=one", "kubeflow-userid": "admin@example.com"}
            async with client.get(url, headers=cookie) as response:
                assert response.status == 200
                assert response.headers.getall("set-cookie") == proxy.refreshed
                seen = str(await response.text())
            assert proxy.sessions["one"] in seen
            assert ALICE in seen
            assert "admin@example.com" not in seen
            assert "theme=dark" in seen
            assert f"{COOKIE}=one" not in seen
            other = mesh.urls[mode] + RUNS.replace("team-a", "team-b")
            async with client.get(other, headers=cookie) as response:
                assert response.status == 403
                assert response.headers.getall("set-cookie") == proxy.refreshed
            mallory = {**cookie, "authorization": f"Bearer {token(server.issuer, email='mallory@example.com')}"}
            async with client.get(url, headers=mallory) as response:
                assert response.status == 401
