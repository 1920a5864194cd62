"""The native gRPC edge: `envoy.service.auth.v3.Authorization/Check` and gRPC health, on an HTTP/2 server of our own.

Every call of Check is answered with a message. What cannot be read is refused in a message too,
and so is a check that would outlast its deadline: a gRPC error would be a failure to Envoy, and
with failOpen an allow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from envoy.service.auth.v3 import external_auth_pb2

from extauthz.decision import Decision
from extauthz.edge import check
from extauthz.edge.asked import Asked
from extauthz.edge.check import BESIDE_BODY_BYTES, SERVICE
from extauthz.edge.listen import Bound, Listening
from extauthz.edge.native import unary
from extauthz.edge.native.answering import Answering
from extauthz.edge.native.h2.connection import Connection
from extauthz.edge.native.h2.fields import Head, encode
from extauthz.edge.native.h2.limits import Limits
from extauthz.edge.native.h2.message import Response, Route
from extauthz.edge.native.health import Health, HealthRoute
from extauthz.edge.native.memory import FieldKeys
from extauthz.edge.native.server import Server
from extauthz.edge.native.unary import Status
from extauthz.edge.reply import PLAIN, Refusals
from extauthz.errors import ConfigurationError, Problem, Refused
from extauthz.gateway import Gateway
from extauthz.request import Request
from extauthz.settings.listeners import GrpcListener

HASTE = 0.9
"""The part of a caller's deadline after which we refuse, so that it hears us before it gives up."""


class GrpcEdge:
    """Serves checks over gRPC."""

    def __init__(
        self,
        gateway: Gateway,
        listener: GrpcListener,
        *,
        max_body_bytes: int,
        refusals: Refusals = PLAIN,
        limits: Limits | None = None,
        listening: Listening | None = None,
    ) -> None:
        """Without `listening` the listener's address is listened on.

        Raises ConfigurationError for reflection, which is not served here.
        """
        if listener.reflection:
            raise ConfigurationError(Problem("gRPC reflection needs the server `grpcio`"))
        self._health = Health(("", SERVICE))
        application = GrpcApplication(gateway, self._health, refusals, max_body_bytes=max_body_bytes)
        self._server = Server(
            listening or Bound(listener.address), lambda open_: Connection(application, limits or Limits(), open_)
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """Tell gRPC health watchers whether checks are answered."""
        self._health.set_serving(ready)

    async def stop(self, grace: float) -> None:
        """Refuse new checks and finish those under way within `grace` seconds."""
        self._health.end()
        await self._server.stop(grace)


class GrpcApplication:
    """Finds out which method a request calls."""

    def __init__(self, gateway: Gateway, health: Health, refusals: Refusals, *, max_body_bytes: int) -> None:
        self._refusals = refusals
        self._max_message = max_body_bytes + BESIDE_BODY_BYTES
        self._max_body_bytes = max_body_bytes
        self._checks: Answering[Asked, Response] = Answering(
            gateway, keys=FieldKeys(), read=self._read, render=self._response
        )
        self._methods: Mapping[str, Callable[[Head], Route]] = {
            f"/{SERVICE}/Check": lambda head: CheckRoute(head, self._checks, self._max_message),
            "/grpc.health.v1.Health/Check": lambda head: HealthRoute(head, health.check),
            "/grpc.health.v1.Health/Watch": lambda head: HealthRoute(head, health.watch),
        }

    def route(self, head: Head) -> Route:
        """Return the method that a request calls, or the refusal of what is no call of one."""
        if not unary.is_grpc(head):
            return Fixed(_plain(b"415", b"Only gRPC is served here: the content-type must be application/grpc.\n"))
        if head.method != "POST":
            return Fixed(_plain(b"405", b"gRPC calls have the method POST.\n"))
        method = self._methods.get(head.path)
        return method(head) if method else Fixed(unary.ended(Status.UNIMPLEMENTED, "unknown method"))

    def _read(self, asked: Asked) -> Request:
        return check.judged(asked, max_body_bytes=self._max_body_bytes)

    def _response(self, decision: Decision, request: Request | None) -> Response:
        content = check.response_of(decision, request, self._refusals)
        return unary.answered(external_auth_pb2.CheckResponse.SerializeToString(content))


class CheckRoute:
    """A call of Authorization/Check."""

    __slots__ = ("_checks", "_encoding", "_seconds", "max_body")

    def __init__(self, head: Head, checks: Answering[Asked, Response], max_message: int) -> None:
        seconds = unary.timeout(head)
        self._seconds = seconds * HASTE if seconds is not None else None
        self._encoding = head.get("grpc-encoding") or unary.IDENTITY
        self._checks = checks
        self.max_body = max_message + unary.PREFIX_BYTES

    def answer(self, body: bytes) -> Response | Awaitable[Response]:
        """Answer the check that the message holds."""
        try:
            asked = check.decoded(unary.message(body, self._encoding, limit=self.max_body))
        except unary.Unreadable as error:
            return self._checks.refuse(Refused("check_undecodable", str(error), status=403))
        except Refused as error:
            return self._checks.refuse(error)
        return self._checks.answer(asked, self._seconds)

    def overflow(self, body: bytes) -> Response:
        """Refuse a check that is larger than Envoy makes them, or one of too many that do not end."""
        return self._checks.refuse(Refused("check_too_large", "The check is too large.", status=403))


class Fixed:
    """The same answer to everything."""

    max_body = 0

    def __init__(self, response: Response) -> None:
        self._response = response

    def answer(self, body: bytes) -> Response:
        """Return the answer."""
        return self._response

    overflow = answer


def _plain(status: bytes, text: bytes) -> Response:
    return Response(encode(((b":status", status), (b"content-type", b"text/plain; charset=utf-8"))), text)
