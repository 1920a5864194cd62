"""Readiness over both doors: `/readyz` and gRPC health agree, from the first moment to the last."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from aiohttp import ClientSession
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extauthz import settings
from extauthz.access import authority
from extauthz.errors import ConfigurationError
from extauthz.service import Service
from tests.apiserver import Double, answer
from tests.apiserver.cluster import write_kubeconfig
from tests.apiserver.fixtures import double
from tests.cases import DATA
from tests.issuer import Issuer, KeyServer

__all__ = ["double"]

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
REVIEWS = "subjectaccessreviews"


def service_of(folder: Path, keys: str, kubeconfig: Path, **addresses: str) -> Service:
    """A service that asks a cluster, with every listener on a port of its own choice."""
    listeners = {edge: {"address": addresses.get(edge, "127.0.0.1:0")} for edge in ("grpc", "http", "admin")}
    issuer = Issuer()
    content = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "listeners": listeners,
        "identity": {"jwt": [{"issuer": issuer.name, "audiences": [issuer.audience], "keys": {"url": keys}}]},
        "access": {"kubernetes": {"kubeconfig": str(kubeconfig)}},
        "policy": {"paths": [str(DATA / "cases" / "policy.yaml")]},
    }
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(content))
    return Service(settings.load(file))


@pytest.fixture
async def keys() -> AsyncIterator[str]:
    """Where the issuer's keys are."""
    async with KeyServer(Issuer()) as server:
        yield f"{server.url}/jwks"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr("extauthz.service.READINESS_SECONDS", 0.01)


async def readyz(service: Service) -> tuple[int, dict[str, Any]]:
    """Ask the admin listener."""
    async with ClientSession() as client, client.get(f"http://127.0.0.1:{service.admin_port}/readyz") as response:
        return response.status, await response.json()


@asynccontextmanager
async def watching(service: Service) -> AsyncIterator[Any]:
    """Watch gRPC health; the block gets what waits for the next state."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())

        async def state() -> int:
            return int((await call.read()).status)

        yield state
        call.cancel()


async def test_grpc_health_says_what_readyz_says(double: Double, tmp_path: Path, keys: str) -> None:
    """Not serving until the API server has answered, serving from then on, and not serving once it stops."""
    service = service_of(tmp_path, keys, double.kubeconfig())
    with ExitStack() as unanswered:
        unanswered.enter_context(double.fault(REVIEWS, answer(500)))
        await service.start()
        async with watching(service) as state:
            assert await state() == NOT_SERVING
            status, told = await readyz(service)
            assert (status, told["ready"]) == (503, False)
            unanswered.close()
            assert await state() == SERVING
            assert (await readyz(service))[0] == 200
            stopping = asyncio.create_task(service.stop())
            assert await state() == NOT_SERVING
            assert service.blockers() == ["stopping"]
    await stopping


async def test_a_credential_plugin_that_hangs_is_told_by_the_admin_listener(
    double: Double, tmp_path: Path, keys: str
) -> None:
    """While the start waits for somebody else the process is alive, and says that it is not ready."""
    plugin, ran = tmp_path / "plugin", tmp_path / "ran"
    os.mkfifo(ran)
    plugin.write_text(f"#!/bin/sh\necho $$ >{ran}\nexec sleep 600\n")
    plugin.chmod(0o700)
    user = {"exec": {"command": str(plugin), "apiVersion": "client.authentication.k8s.io/v1"}}
    cluster = {"server": double.url, "certificate-authority": str(double.ca)}
    service = service_of(tmp_path, keys, write_kubeconfig(tmp_path / "config", cluster, user))
    starting = asyncio.create_task(service.start())
    process = int(await asyncio.to_thread(ran.read_text))
    status, told = await readyz(service)
    assert status == 503
    assert told["blockers"][0] == "starting"
    assert "the API server is not connected" in told["blockers"]
    assert service.grpc_port == service.http_port == 0
    starting.cancel()
    await asyncio.wait([starting])
    await service.stop()
    os.kill(process, 9)


async def test_readiness_is_not_told_before_everything_listens(double: Double, tmp_path: Path, keys: str) -> None:
    """Where an edge cannot listen, whoever asks in that moment reads that we are starting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        service = service_of(tmp_path, keys, double.kubeconfig(), http=address)
        with pytest.raises(ConfigurationError, match=address):
            await service.start()
        status, told = await readyz(service)
        assert (status, told["blockers"][0]) == (503, "starting")
        await service.stop()
