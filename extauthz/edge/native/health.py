"""gRPC health (`grpc.health.v1.Health`) on the native server. Not serving until told so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from extauthz.edge.native import unary
from extauthz.edge.native.h2.fields import Head
from extauthz.edge.native.h2.message import Response, Streaming
from extauthz.edge.native.unary import Status

MAX_REQUEST_BYTES = 4096

_STATES = health_pb2.HealthCheckResponse


class Health:
    """The state of the whole server (the empty name) and of its services; all change together."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services)
        self._state = _STATES.NOT_SERVING
        self._changed = asyncio.Event()
        self._ended = False

    def set_serving(self, serving: bool) -> None:
        """Tell everybody who watches whether checks are answered."""
        self._state = _STATES.SERVING if serving else _STATES.NOT_SERVING
        self._wake()

    def end(self) -> None:
        """End all watches."""
        self._ended = True
        self._wake()

    def check(self, service: str) -> Response:
        """Answer Health/Check."""
        if service not in self._services:
            return unary.ended(Status.NOT_FOUND, "unknown service")
        return unary.answered(self._message(service))

    def watch(self, service: str) -> Streaming:
        """Answer Health/Watch: the state now, and each time it changes."""
        end = unary.trailers(Status.UNAVAILABLE, "the server stops")
        return Streaming(unary.STREAM_HEADERS, self._states(service), end)

    async def _states(self, service: str) -> AsyncGenerator[bytes, None]:
        told = b""
        while True:
            changed, message = self._changed, self._message(service)
            if message != told:
                told = message
                yield unary.framed(message)
            if self._ended:
                return
            await changed.wait()

    def _message(self, service: str) -> bytes:
        state = self._state if service in self._services else _STATES.SERVICE_UNKNOWN
        return bytes(_STATES(status=state).SerializeToString())

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class HealthRoute:
    """A call of Health/Check or Health/Watch."""

    max_body = MAX_REQUEST_BYTES

    def __init__(self, head: Head, handle: Callable[[str], Response | Streaming]) -> None:
        self._encoding = head.get("grpc-encoding") or unary.IDENTITY
        self._handle = handle

    def answer(self, body: bytes) -> Response | Streaming:
        """Answer for the service that the message names."""
        try:
            content = unary.message(body, self._encoding, limit=self.max_body)
            request = health_pb2.HealthCheckRequest.FromString(content)
        except unary.Unreadable as error:
            return unary.ended(error.status, str(error))
        except DecodeError:
            return unary.ended(Status.INTERNAL, "The message cannot be decoded.")
        return self._handle(request.service)

    def overflow(self, body: bytes) -> Response:
        """Refuse."""
        return unary.ended(Status.RESOURCE_EXHAUSTED, "The message is too large.")
