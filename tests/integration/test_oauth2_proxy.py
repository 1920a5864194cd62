"""A real oauth2-proxy and a real OpenID provider, behind a real Envoy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import aiohttp

from extauthz.demo.mesh import DemoMesh
from tests.clients.oauth2_proxy import CLIENT, COOKIE, OAuth2Proxy
from tests.integration.provider import provider

PAGE = "/notebook/team-a/nb/?path=a"
ALICE = "alice@example.com"
NAVIGATION = {"accept": "text/html", "sec-fetch-mode": "navigate"}
GROUPS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20)]
"""Names that cannot be compressed: the session is too long for one cookie, and not for oauth2-proxy."""


async def test_a_long_session_is_split_and_no_part_reaches_a_notebook(tmp_path: Path) -> None:
    """Login leads back to the page; the groups are the token's; the session's cookies stay behind, others pass."""
    async with (
        provider("--user-claims", json.dumps({"sub": ALICE, "email": ALICE, "groups": GROUPS})) as issuer,
        OAuth2Proxy(issuer) as proxy,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), headers=NAVIGATION) as client,
    ):
        keys = {"discovery": True, "timeoutSeconds": 20}
        claims = {"user": "email", "groups": "groups"}
        configured = {"issuer": issuer, "audiences": [CLIENT], "keys": keys, "claims": claims}
        session = {"url": proxy.auth_url, "cookie": COOKIE, "timeoutSeconds": 20}
        async with DemoMesh(
            tmp_path / "mesh",
            settings={"identity": {"jwt": [configured], "session": session}, "deadlineSeconds": 25},
            envoy={"login_port": proxy.port, "timeout_seconds": 30},
        ) as mesh:
            page = mesh.urls["grpc"] + PAGE
            async with client.get(page) as form:
                assert str(form.url).startswith(issuer)
            client.cookie_jar.update_cookies({"theme": "dark"}, form.history[0].url)
            async with client.post(form.url, data={"sub": ALICE}) as response:
                assert (response.status, response.url.path_qs) == (200, PAGE)
                seen = dict((await response.json())["headers"])
            parts = {cookie.key: cookie.value for cookie in client.cookie_jar if cookie.key.startswith(COOKIE)}
            assert {f"{COOKIE}_0", f"{COOKIE}_1"} <= parts.keys()
            assert seen["kubeflow-userid"] == ALICE
            assert set(seen["kubeflow-groups"].split(",")) == set(GROUPS)
            assert seen["cookie"] == "theme=dark"
            assert seen["authorization"].startswith("Bearer ey")

            for changed in ({f"{COOKIE}_0": parts[f"{COOKIE}_1"]}, {f"{COOKIE}_1": ""}):
                cookies = {**parts, **changed}
                async with aiohttp.ClientSession(cookies=cookies) as mallory:
                    async with mallory.get(page, headers=NAVIGATION, allow_redirects=False) as response:
                        assert response.status == 302
                    async with mallory.get(page, headers={"accept": "application/json"}) as response:
                        assert response.status == 401
