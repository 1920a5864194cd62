"""The HTTP edge on aiohttp: Envoy's `http_service` mode over HTTP/1.1.

The raw request line is read as it came: no library may normalise it first.
"""

from __future__ import annotations

import logging
import socket

from aiohttp import web

from extauthz.decision import Decision
from extauthz.edge.asked import Asked, joined
from extauthz.edge.http_service import Checks, reply_to
from extauthz.edge.listen import bind
from extauthz.edge.reply import PLAIN, Refusals
from extauthz.edge.tls import Certificates
from extauthz.errors import ExtauthzError
from extauthz.gateway import Gateway
from extauthz.request import Request
from extauthz.settings.listeners import HttpListener

MAX_HEAD_BYTES = 128 * 1024
"""The longest request line, and the longest header: more than Envoy's own limit for all of them together."""

_logger = logging.getLogger(__name__)


class HttpEdge:
    """Serves checks over HTTP/1.1."""

    def __init__(
        self,
        gateway: Gateway,
        listener: HttpListener,
        *,
        max_body_bytes: int,
        refusals: Refusals = PLAIN,
        certificates: Certificates | None = None,
    ) -> None:
        self._tls = certificates.server_context() if certificates else None
        self._refusals = refusals
        self._gateway = gateway
        self._listener = listener
        self._max_body_bytes = max_body_bytes
        self._checks = Checks(listener.path_prefix, max_body_bytes, peers_from=listener.peers_from)
        self._runner: web.ServerRunner | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        listening: socket.socket = bind(self._listener.address)
        self.port = listening.getsockname()[1]
        server = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,  # it would show us another body than the upstream gets
            keepalive_timeout=3600,
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
        )
        self._runner = web.ServerRunner(server)
        await self._runner.setup()
        await web.SockSite(self._runner, listening, ssl_context=self._tls).start()

    async def stop(self, grace: float) -> None:
        """Refuse new checks and finish those under way within `grace` seconds."""
        if self._runner is not None:
            self._runner._shutdown_timeout = grace
            await self._runner.cleanup()

    async def _handle(self, incoming: web.BaseRequest) -> web.Response:
        request = None
        try:
            request = await self._read(incoming)
            decision = self._gateway.decide(request)
            if not isinstance(decision, Decision):
                decision = await decision
            return self._response(decision, request)
        except ExtauthzError as error:
            return self._response(self._gateway.refuse(error), request)
        except Exception:
            _logger.exception("a check failed; the request is refused")
            return self._response(self._gateway.refuse(ExtauthzError()), None)

    async def _read(self, incoming: web.BaseRequest) -> Request:
        headers, content = joined(incoming.headers.items()), await self._body(incoming)
        return self._checks.read(Asked(incoming.method, incoming.raw_path, headers, content))

    async def _body(self, incoming: web.BaseRequest) -> bytes:
        """Read as much as can be judged; a body that reaches the limit counts as truncated anyway."""
        content = bytearray()
        async for chunk in incoming.content.iter_any():
            content += chunk[: self._max_body_bytes - len(content)]
        return bytes(content)

    def _response(self, decision: Decision, request: Request | None) -> web.Response:
        told = reply_to(decision, request, self._refusals)
        return web.Response(status=told.status, headers=told.headers, body=told.body)
