"""The gRPC edge: `envoy.service.auth.v3.Authorization/Check` and gRPC health.

Answers are always messages: a gRPC error would be a failure to Envoy, and with failOpen an
allow.
"""

from __future__ import annotations

import logging

import grpc
from envoy.service.auth.v3 import external_auth_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from extauthz.decision import Decision
from extauthz.edge import check
from extauthz.edge.check import BESIDE_BODY_BYTES, SERVICE
from extauthz.edge.reply import PLAIN, Refusals
from extauthz.edge.tls import Certificates
from extauthz.errors import ConfigurationError, ExtauthzError, Problem
from extauthz.gateway import Gateway
from extauthz.settings.listeners import GrpcListener

_logger = logging.getLogger(__name__)


class GrpcEdge:
    """Serves checks over gRPC."""

    def __init__(
        self,
        gateway: Gateway,
        listener: GrpcListener,
        *,
        max_body_bytes: int,
        refusals: Refusals = PLAIN,
        certificates: Certificates | None = None,
    ) -> None:
        self._certificates = certificates
        self._gateway = gateway
        self._refusals = refusals
        self._listener = listener
        self._max_body_bytes = max_body_bytes
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        largest = self._max_body_bytes + BESIDE_BODY_BYTES
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", largest)])
        self._server = server
        handler = grpc.unary_unary_rpc_method_handler(self._check)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": handler}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._listener.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        try:
            self.port = self._bind(server)
        except RuntimeError:
            raise ConfigurationError(
                Problem(f"cannot listen on {self._listener.address}", hint="is the port taken?")
            ) from None
        await server.start()

    def _bind(self, server: grpc.aio.Server) -> int:
        address, certificates = self._listener.address, self._certificates
        if certificates is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, certificates.grpc_credentials()))

    async def set_ready(self, ready: bool) -> None:
        """Tell gRPC health watchers whether checks are answered."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Refuse new checks and finish those under way within `grace` seconds."""
        if self._server is not None:
            await self._server.stop(grace)

    async def _check(self, content: bytes, context: grpc.aio.ServicerContext) -> bytes:
        request = None
        try:
            request = check.parse(content, max_body_bytes=self._max_body_bytes)
            decision = self._gateway.decide(request)
            if not isinstance(decision, Decision):
                decision = await decision
            response = check.response_of(decision, request, self._refusals)
        except ExtauthzError as error:
            response = check.response_of(self._gateway.refuse(error), request, self._refusals)
        except Exception:
            _logger.exception("a check failed; the request is refused")
            response = check.response_of(self._gateway.refuse(ExtauthzError()), None, self._refusals)
        return external_auth_pb2.CheckResponse.SerializeToString(response)  # type: ignore[no-any-return]
