"""A person with a browser: logs in, works in a notebook, loses the right to, and is refused at the next click.

Every part is real but the cluster: Chromium, Envoy, oauth2-proxy, an OpenID provider, JupyterLab.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from extauthz.demo.mesh import DemoMesh
from tests.apiserver import Double
from tests.clients.browser import Browser
from tests.clients.jupyter import BASE, LOOKUPS, READY, JupyterLab
from tests.clients.oauth2_proxy import CLIENT, COOKIE, OAuth2Proxy
from tests.integration.cluster import double as double
from tests.integration.cluster import event, owner, ready, settings
from tests.integration.provider import provider

ALICE = "alice@example.com"
REFRESH = "[data-command='filebrowser:refresh']"


@asynccontextmanager
async def platform(double: Double, folder: Path) -> AsyncIterator[tuple[str, DemoMesh]]:
    """Yield the provider's address, and a mesh whose notebook asks for a login. Deadlines bear a stalled machine."""
    async with (
        provider() as issuer,
        OAuth2Proxy(issuer) as proxy,
        JupyterLab(folder / "jupyter") as lab,
        DemoMesh(
            folder / "mesh",
            settings={
                **settings(double.kubeconfig()),
                "identity": _identity(issuer, proxy.auth_url),
                "lookups": LOOKUPS,
                "deadlineSeconds": 25,
            },
            envoy={"upstream_port": lab.port, "login_port": proxy.port, "timeout_seconds": 30},
        ) as mesh,
    ):
        yield issuer, mesh


def _identity(issuer: str, auth_url: str) -> dict[str, Any]:
    keys = {"discovery": True, "timeoutSeconds": 20}
    configured = {"issuer": issuer, "audiences": [CLIENT], "keys": keys, "claims": {"user": "email"}}
    return {"jwt": [configured], "session": {"url": auth_url, "cookie": COOKIE, "timeoutSeconds": 20}}


async def test_a_login_a_notebook_and_the_click_after_the_right_is_gone(double: Double, tmp_path: Path) -> None:
    """In both modes: the page works, then a click in it is refused, and the page itself says what is missing."""
    async with platform(double, tmp_path) as (issuer, mesh), Browser(tmp_path / "chromium") as browser:
        authority = await ready(mesh)
        await browser.open(f"{mesh.urls['grpc']}{BASE}/lab")
        assert (await browser.run("return location.href")).startswith(f"{issuer}/"), await browser.text()
        await browser.write(ALICE)
        async with browser.leaving():
            await browser.press("Enter")
        assert await browser.run("return location.href") == f"{mesh.urls['grpc']}{BASE}/lab", await browser.text()
        for url in mesh.urls.values():  # cookies do not tell ports apart: one login is enough
            await browser.open(f"{url}{BASE}/lab")
            await browser.run(READY)
            browser.seen.clear()
            double.erase(owner("a"))
            await event(authority, "alice")
            await browser.click(REFRESH)
            await browser.answered(403)
            await browser.open(f"{url}{BASE}/lab")
            told = await browser.text()
            assert all(word in told for word in (ALICE, "update", "notebooks", "team-a"))
            double.write(owner("a"))
            await event(authority, "alice")
