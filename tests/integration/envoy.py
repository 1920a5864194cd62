"""A real Envoy with throwaway authorization servers, for tests of what Envoy itself does.

The servers record every check and allow it, unless the request's path contains `deny`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from aiohttp import ClientResponse, ClientSession, web
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from yarl import URL

from extauthz.demo import HOST
from extauthz.demo.envoy import Envoy, EnvoyConfig
from extauthz.demo.upstream import Upstream


class GrpcAuthz(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc] # the package has no types
    """Records CheckRequests; allowed requests get `kubeflow-userid: checked`."""

    def __init__(self) -> None:
        self.checks: list[Any] = []
        self.port = 0

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 -- gRPC names the method
        self.checks.append(request)
        answer = external_auth_pb2.CheckResponse()
        if "deny" in request.attributes.request.http.path:
            answer.status.code = grpc.StatusCode.PERMISSION_DENIED.value[0]
            answer.denied_response.status.code = 403
            return answer
        option = answer.ok_response.headers.add()
        option.header.key, option.header.value = "kubeflow-userid", "checked"
        return answer


@dataclass(slots=True)
class HttpAuthz:
    """Records requests as (raw path, headers, body); allowed ones get `kubeflow-userid: checked`."""

    checks: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer one check."""
        self.checks.append((request.raw_path, request.headers, await request.read()))
        if "deny" in request.raw_path:
            return web.Response(status=403, headers={"www-authenticate": "Bearer", "x-secret": "stays here"})
        return web.Response(headers={"kubeflow-userid": "checked", "kubeflow-groups": ""})


@dataclass(frozen=True, slots=True)
class Harness:
    """Everything that runs; `urls` are the two listeners by mode."""

    envoy: Envoy
    upstream: Upstream
    grpc: GrpcAuthz
    http: HttpAuthz

    @property
    def urls(self) -> dict[str, str]:
        """The listeners, by mode."""
        return {"grpc": self.envoy.grpc_url, "http": self.envoy.http_url}


@asynccontextmanager
async def harness(
    folder: Path, build: Callable[[EnvoyConfig], str] | None = None, **options: Any
) -> AsyncIterator[Harness]:
    """Start Envoy with recording authorization servers; `options` go to EnvoyConfig, `build` renders it."""
    async with Upstream() as upstream, _grpc_authz() as grpc_authz, _http_authz() as http_authz:
        config = EnvoyConfig(
            upstream_port=upstream.port,
            authz_grpc_port=grpc_authz.port,
            authz_http_port=http_authz.port,
            **options,
        )
        async with Envoy(config, folder, build) as envoy:
            yield Harness(envoy, upstream, grpc_authz, http_authz)


@asynccontextmanager
async def send(
    client: ClientSession, method: str, base: str, path: str, **options: Any
) -> AsyncIterator[ClientResponse]:
    """Send a request with its path exactly as written, and yield the response."""
    async with client.request(method, URL(base + path, encoded=True), allow_redirects=False, **options) as response:
        yield response


@asynccontextmanager
async def _grpc_authz() -> AsyncIterator[GrpcAuthz]:
    authz, server = GrpcAuthz(), grpc.aio.server()
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(authz, server)
    authz.port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield authz
    finally:
        await server.stop(None)


@asynccontextmanager
async def _http_authz() -> AsyncIterator[HttpAuthz]:
    authz = HttpAuthz()
    runner = web.ServerRunner(web.Server(authz.answer, access_log=None), shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        authz.port = runner.addresses[0][1]
        yield authz
    finally:
        await runner.cleanup()
