"""The native edges with clients that are not ours: Envoy in both modes and over h2c, grpcio and grpclib."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpclib.client
import grpclib.const
import pytest
from aiohttp import ClientSession
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from grpc_health.v1 import health_pb2

from extauthz.demo import scenario
from extauthz.demo.mesh import DemoMesh
from extauthz.edge.check import SERVICE
from extauthz.edge.native.grpc import GrpcEdge
from extauthz.settings.listeners import GrpcListener
from tests.cases import ALICE, gateway
from tests.integration.envoy import send

LIMIT = 65536


@pytest.fixture
async def edge() -> AsyncIterator[GrpcEdge]:
    served = GrpcEdge(gateway(), GrpcListener(address="127.0.0.1:0"), max_body_bytes=LIMIT)
    await served.start()
    await served.set_ready(True)
    yield served
    await served.stop(0)


def ask(path: str, body: bytes = b"") -> external_auth_pb2.CheckRequest:
    message = external_auth_pb2.CheckRequest()
    http = message.attributes.request.http
    http.method, http.path, http.raw_body = "GET", path, body
    return message


async def test_the_demo_through_envoy(tmp_path: Path) -> None:
    """Every case of the demo, in both modes."""
    async with DemoMesh(tmp_path) as mesh, ClientSession() as client:
        assert isinstance(mesh.service._grpc, GrpcEdge)
        results = await scenario.verify(client, mesh)
    assert [result for result in results if not result.holds] == []


async def test_many_requests_at_once_through_envoy(tmp_path: Path) -> None:
    """Over one connection in gRPC mode, over many in HTTP mode; small and large; none is lost."""
    async with DemoMesh(tmp_path) as mesh, ClientSession() as client:
        token = scenario.tokens(mesh.signer)["alice"]

        async def one(number: int, mode: str) -> int:
            path = "/pipeline/apis/v2beta1/runs?namespace=team-a"
            headers = {"authorization": f"Bearer {token}", "x-number": str(number)}
            if number % 3 == 0:
                headers |= {f"x-large-{place}": "y" * 7000 for place in range(4)}
            async with send(client, "GET", mesh.urls[mode], path, headers=headers) as response:
                return response.status

        statuses = await asyncio.gather(*(one(number, mode) for number in range(150) for mode in mesh.urls))
    assert set(statuses) == {200}


async def test_grpcio(edge: GrpcEdge) -> None:
    """Many calls at once, small and large, compressed, with a deadline."""
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}", options=options) as channel:
        check = external_auth_pb2_grpc.AuthorizationStub(channel).Check
        plain = [check(ask("/app"), timeout=30) for _ in range(200)]
        packed = [check(ask("/app"), compression=grpc.Compression.Gzip) for _ in range(20)]
        large = [check(ask("/app", bytes(60_000)), timeout=30) for _ in range(50)]
        answers = await asyncio.gather(*plain, *packed, *large)
        too_large = await check(ask("/app", bytes(3_000_000)))
    assert all(answer.ok_response.headers[0].header.value == ALICE for answer in answers)
    assert too_large.denied_response.status.code == 403


async def test_grpclib(edge: GrpcEdge) -> None:
    """A client on another HTTP/2 library."""
    async with grpclib.client.Channel("127.0.0.1", edge.port) as channel:
        method = grpclib.client.UnaryUnaryMethod(
            channel, f"/{SERVICE}/Check", external_auth_pb2.CheckRequest, external_auth_pb2.CheckResponse
        )
        answers = await asyncio.gather(*(method(ask("/app"), timeout=30) for _ in range(100)))
        assert all(answer.ok_response.headers[0].header.value == ALICE for answer in answers)
        health = grpclib.client.UnaryUnaryMethod(
            channel, "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        )
        assert (await health(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


async def test_no_call_is_lost_while_the_server_drains(edge: GrpcEdge) -> None:
    """A client that honours GOAWAY gets an answer to everything that was sent."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        check = external_auth_pb2_grpc.AuthorizationStub(channel).Check
        await check(ask("/app"))
        calls = [check(ask("/app"), timeout=30) for _ in range(100)]
        answers = asyncio.gather(*calls)
        await asyncio.gather(calls[0])
        stopping = asyncio.create_task(edge.stop(30))
        assert len(await answers) == 100
        await stopping
