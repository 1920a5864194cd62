"""Issuers, their outages and key rotations, and sessions, behind a real Envoy."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from extauthz.demo.mesh import DemoMesh
from tests.integration.conftest import MeshFactory
from tests.issuer import Issuer, KeyServer, SigningKey, compact, rsa_key, segment
from tests.oauth2proxy import COOKIE, OAuth2Proxy

RUNS = "/pipeline/apis/v2beta1/runs?namespace=team-a"
ALICE = "alice@example.com"
NAVIGATION = {"accept": "text/html", "sec-fetch-mode": "navigate"}


POLICY = """
apiVersion: extauthz.dev/v1
kind: Policy
rules:
  - name: runs
    match: {path: /pipeline/apis/v2beta1/runs, methods: [GET]}
    access: [{verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: query:namespace}]
"""


@pytest.fixture(name="new_mesh")
def _new_mesh(tmp_path: Path) -> MeshFactory:
    """Make a mesh with one rule, so that identity alone is at stake."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return lambda **options: DemoMesh(tmp_path / "state", policies=file, **options)


def settings(issuer: str, audience: str, keys: dict[str, Any], **identity: Any) -> dict[str, Any]:
    """Return the settings of a mesh that believes one issuer."""
    configured = {"issuer": issuer, "audiences": [audience], "keys": keys, "claims": {"user": "email"}}
    return {"identity": {"jwt": [configured], **identity}}


def token(issuer: Issuer, key: SigningKey | None = None, **claims: Any) -> str:
    """Sign a token of alice that is valid today."""
    now = int(time.time())
    key = key or issuer.keys[0]
    named = {"email": ALICE, "iat": now, "exp": now + 3600, **claims}
    return compact({"alg": "RS256", "kid": key.id, "typ": "JWT"}, issuer.claims(**named), key)


async def status(client: aiohttp.ClientSession, url: str, token: str) -> int:
    """Return the status of a request with a token."""
    async with client.get(url + RUNS, headers={"authorization": f"Bearer {token}"}) as response:
        await response.read()
        return response.status


async def test_keys_rotate_under_load_without_a_refusal_or_a_hole(new_mesh: MeshFactory) -> None:
    """300 requests a second through Envoy, each with a token of its own, across two rotations.

    The issuer publishes a key, signs with it at once, then withdraws the old one. No valid
    token is refused, and no token of a forger, or of a withdrawn key later, is allowed.
    """
    old, new, newest = (rsa_key(f"rotation-{number}") for number in range(3))
    forger = rsa_key("rotation-forger")
    server = KeyServer(Issuer(keys=[old]))
    async with server:
        server.issuer.name = server.url
        keys = {"discovery": True, "cooldownSeconds": 1, "refreshSeconds": 1}
        configured = settings(server.url, server.issuer.audience, keys)
        async with new_mesh(settings=configured) as mesh, aiohttp.ClientSession() as client:
            outcomes: Counter[tuple[str, int]] = Counter()

            async def one(kind: str, number: int) -> None:
                signer = server.issuer.keys[0]
                forged = compact(
                    {"alg": "RS256", "kid": signer.id}, server.issuer.claims(email=ALICE, exp=4_000_000_000), forger
                )
                sent = forged if kind == "forged" else token(server.issuer, signer, jti=str(number))
                outcomes[kind, await status(client, mesh.urls["grpc" if number % 2 else "http"], sent)] += 1

            started = asyncio.get_running_loop().time()
            rate, seconds = 300, 4
            tasks = []
            for number in range(rate * seconds):
                due = started + number / rate
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
                if number == rate:
                    server.issuer.keys = [new, old]
                if number == rate * 5 // 2:
                    server.issuer.keys = [newest, new]
                kind = "forged" if number % 10 == 0 else "valid"
                tasks.append(asyncio.create_task(one(kind, number)))
            await asyncio.gather(*tasks)
            assert dict(outcomes) == {("valid", 200): rate * seconds * 9 // 10, ("forged", 401): rate * seconds // 10}
            assert await status(client, mesh.urls["grpc"], token(server.issuer, old)) == 401


async def test_an_outage_of_the_issuer_costs_nobody_anything(new_mesh: MeshFactory) -> None:
    """While it is down, its keys go on verifying: good tokens pass, forged ones do not."""
    server = KeyServer(Issuer(keys=[rsa_key("outage")]))
    async with server:
        server.issuer.name = server.url
        keys = {"url": f"{server.url}/jwks", "cooldownSeconds": 1, "refreshSeconds": 1}
        configured = settings(server.url, server.issuer.audience, keys)
        async with new_mesh(settings=configured) as mesh, aiohttp.ClientSession() as client:
            assert await status(client, mesh.urls["grpc"], token(server.issuer)) == 200
            await server.down()
            for number in range(20):
                good = token(server.issuer, jti=str(number))
                assert await status(client, mesh.urls["http" if number % 2 else "grpc"], good) == 200
                assert await status(client, mesh.urls["grpc"], token(server.issuer, rsa_key("forger"))) == 401
            await server.up()
            assert await status(client, mesh.urls["grpc"], token(server.issuer, jti="after")) == 200


needs_provider = pytest.mark.skipif(
    importlib.util.find_spec("oidc_provider_mock") is None, reason="oidc-provider-mock is not installed"
)


@asynccontextmanager
async def provider(port: int = 0) -> AsyncIterator[str]:
    """Run an OpenID provider as a process of its own; yield its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            async for line in process.stderr:
                if b"running on" in line:
                    yield "http://" + line.decode().split("http://")[1].split()[0]
                    return
        raise AssertionError("the provider did not start")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def login(client: aiohttp.ClientSession, address: str, user: str) -> str:
    """Log in by the authorization code flow; return the ID token."""
    back = "http://localhost/callback"
    asked = {"client_id": "kubeflow", "redirect_uri": back, "response_type": "code", "scope": "openid email"}
    async with client.post(
        f"{address}/oauth2/authorize", params=asked, data={"sub": user}, allow_redirects=False
    ) as response:
        code = parse_qs(urlsplit(response.headers["location"]).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
    secret = {"authorization": aiohttp.encode_basic_auth("kubeflow", "any")}
    async with client.post(f"{address}/oauth2/token", data=form, headers=secret) as response:
        return str((await response.json())["id_token"])


@needs_provider
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
        async with provider(int(address.rpartition(":")[2])) as again:
            assert again == address
            await _until(client, mesh, await login(client, address, ALICE), 200)
            assert await status(client, mesh.urls["grpc"], first) == 401


async def _until(client: aiohttp.ClientSession, mesh: DemoMesh, token: str, wanted: int) -> None:
    """Ask until the refresh has come round."""
    async with asyncio.timeout(20):
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
            other = mesh.urls[mode] + RUNS.replace("team-a", "team-b")
            async with client.get(other, headers=cookie) as response:
                assert response.status == 403
                assert response.headers.getall("set-cookie") == proxy.refreshed
            mallory = {**cookie, "authorization": f"Bearer {token(server.issuer, email='mallory@example.com')}"}
            async with client.get(url, headers=mallory) as response:
                assert response.status == 401
