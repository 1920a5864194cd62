"""The component that sends checks of one credential to one replica: what it changes in Envoy, and why it is needed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web

from extauthz.demo import HOST
from extauthz.demo.envoy import Envoy, EnvoyConfig, bootstrap_json
from extauthz.demo.upstream import Upstream
from tests.mesh.kustomize import ISTIO

USERS, CHECKS = 8, 6


def patch() -> dict[str, Any]:
    """What the EnvoyFilter merges into the cluster."""
    text = (ISTIO / "components" / "consistent-hashing" / "envoy-filter.yaml").read_text()
    (change,) = yaml.safe_load(text)["spec"]["configPatches"]
    return dict(change["patch"]["value"])


@asynccontextmanager
async def replica(asked: Counter[tuple[str, str]], name: str) -> AsyncIterator[int]:
    """A provider that allows everything and counts who asked it."""

    async def answer(request: web.BaseRequest) -> web.Response:
        asked[name, request.headers["authorization"]] += 1
        return web.Response()

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("change", "sticks"), [(patch(), True), ({"lbPolicy": "RING_HASH"}, False)])
async def test_one_credential_asks_one_replica(tmp_path: Path, change: dict[str, Any], sticks: bool) -> None:
    """With the component it does; with what a DestinationRule alone makes of the cluster it does not."""
    asked: Counter[tuple[str, str]] = Counter()
    async with Upstream() as upstream, replica(asked, "one") as one, replica(asked, "two") as two:

        def build(config: EnvoyConfig) -> str:
            bootstrap = json.loads(bootstrap_json(config))
            (cluster,) = (c for c in bootstrap["staticResources"]["clusters"] if c["name"] == "authz-http")
            endpoints = cluster["loadAssignment"]["endpoints"][0]["lbEndpoints"]
            endpoints.append({"endpoint": {"address": {"socketAddress": {"address": HOST, "portValue": two}}}})
            cluster.update(change)
            return json.dumps(bootstrap)

        config = EnvoyConfig(upstream_port=upstream.port, authz_grpc_port=one, authz_http_port=one)
        async with Envoy(config, tmp_path, build) as envoy, ClientSession() as client:
            for _ in range(CHECKS):
                for user in range(USERS):
                    headers = {"authorization": f"Bearer {user}"}
                    async with client.get(f"{envoy.http_url}/x", headers=headers) as response:
                        assert response.status == 200
    assert asked.total() == USERS * CHECKS
    assert (len(asked) == USERS) is sticks
