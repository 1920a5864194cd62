"""A real OpenID provider: oidc-provider-mock, as a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import aiohttp

from tests.clients.children import drain, stop

START_SECONDS = 60


@asynccontextmanager
async def provider(*options: str, port: int = 0) -> AsyncIterator[str]:
    """Run an OpenID provider as a process of its own, with command line options; yield its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *options),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            while b"http://" not in (line := await process.stderr.readline()):
                assert line, "the provider did not start"
        drained = asyncio.create_task(drain(process.stderr))
        yield "http://" + line.decode().split("http://")[1].split()[0]
        drained.cancel()
    finally:
        await stop(process)


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
