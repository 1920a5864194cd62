"""The gRPC edge over a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from extauthz.edge.check import SERVICE
from extauthz.edge.grpc import GrpcEdge
from extauthz.errors import ConfigurationError
from extauthz.gateway import Gateway
from extauthz.settings.listeners import GrpcListener
from tests.cases import ALICE, gateway
from tests.unit.edge.test_check import wire

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def serve(built: Gateway, *, reflection: bool = False, max_body_bytes: int = 65536) -> GrpcEdge:
    edge = GrpcEdge(built, GrpcListener(address="127.0.0.1:0", reflection=reflection), max_body_bytes=max_body_bytes)
    await edge.start()
    return edge


@pytest.fixture
async def edge() -> AsyncIterator[GrpcEdge]:
    served = await serve(gateway())
    yield served
    await served.stop(1)


@pytest.fixture
async def channel(edge: GrpcEdge) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as opened:
        yield opened


def ask(path: str, method: str = "GET") -> external_auth_pb2.CheckRequest:
    message = external_auth_pb2.CheckRequest()
    http = message.attributes.request.http
    http.method, http.path = method, path
    return message


async def check(channel: grpc.aio.Channel, message: external_auth_pb2.CheckRequest) -> external_auth_pb2.CheckResponse:
    return await external_auth_pb2_grpc.AuthorizationStub(channel).Check(message)


async def raw(channel: grpc.aio.Channel, content: bytes) -> external_auth_pb2.CheckResponse:
    call = channel.unary_unary(f"/{SERVICE}/Check")
    return external_auth_pb2.CheckResponse.FromString(await call(content))


async def test_an_allowed_request(channel: grpc.aio.Channel) -> None:
    """The generated client of Envoy's service gets an OK with the user's name."""
    response = await check(channel, ask("/app"))
    assert response.status.code == 0
    assert [option.header.value for option in response.ok_response.headers] == [ALICE]


async def test_a_refused_request(channel: grpc.aio.Channel) -> None:
    """A refusal is a message, not a gRPC error."""
    response = await check(channel, ask("/unknown"))
    assert response.denied_response.status.code == 403


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", wire("tcp-plain")])
async def test_what_is_no_http_check_is_refused_in_a_message(channel: grpc.aio.Channel, content: bytes) -> None:
    """An error would be an allow under failOpen."""
    response = await raw(channel, content)
    assert response.status.code != 0
    assert response.denied_response.status.code == 403


async def test_a_broken_gateway_refuses_in_a_message() -> None:
    """Even an exception in the edge itself is answered with an explicit status."""

    class Broken(Gateway):
        def decide(self, request: object) -> object:  # type: ignore[override]  # the fault to survive
            raise RuntimeError("boom")

    built = gateway()
    built.__class__ = Broken
    edge = await serve(built)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        response = await check(channel, ask("/app"))
    await edge.stop(1)
    assert response.denied_response.status.code == 503
    assert "boom" not in response.denied_response.body


async def test_health_follows_readiness(edge: GrpcEdge, channel: grpc.aio.Channel) -> None:
    """For the whole server and for the service by name, in Check and in Watch."""
    stub = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    await edge.set_ready(True)
    for name in ("", SERVICE):
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
    seen = (await watch.read()).status
    while seen != SERVING:
        seen = (await watch.read()).status
    await edge.set_ready(False)
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()


async def _services(edge: GrpcEdge) -> list[str]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        call.cancel()
        return [service.name for service in answer.list_services_response.service]


async def test_reflection_is_off_by_default(edge: GrpcEdge) -> None:
    """Strangers are not told what is served."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _services(edge)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_can_be_switched_on() -> None:
    """For grpcurl in a lab."""
    edge = await serve(gateway(), reflection=True)
    assert SERVICE in await _services(edge)
    await edge.stop(1)


async def test_a_taken_port_is_said(edge: GrpcEdge) -> None:
    """The address is named, with what to look at."""
    second = GrpcEdge(gateway(), GrpcListener(address=f"127.0.0.1:{edge.port}"), max_body_bytes=1)
    with pytest.raises(ConfigurationError, match=str(edge.port)):
        await second.start()
    await second.stop(0)


async def test_a_body_as_large_as_the_settings_allow_is_read() -> None:
    """gRPC's own limit of 4 MiB for a message does not stand in the way."""
    limit = 8 * 1024 * 1024
    edge = await serve(gateway(), max_body_bytes=limit)
    message = ask("/pipeline/apis/v2beta1/experiments", "POST")
    http = message.attributes.request.http
    http.headers["x-envoy-auth-partial-body"] = "false"
    http.raw_body = b'{"namespace":"team-a","display_name":"x"}'.ljust(limit - 1)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        response = await check(channel, message)
    await edge.stop(1)
    assert response.status.code == 0


async def test_an_edge_that_never_started_can_be_stopped() -> None:
    """Where a later part of the start fails, everything is stopped."""
    await GrpcEdge(gateway(), GrpcListener(), max_body_bytes=1).stop(1)
