"""A stub Kubeflow: whatever it is asked, it answers with what it received.

So a test, or a person with curl, sees exactly what an upstream behind Envoy would see:
the raw path, every header in order with its duplicates, and the body.

Where extauthz itself asks, below `/apis/`, it is a stub of the KFP API: the experiment, run,
recurring run or pipeline `first-a` belongs to team-a, `first-b` to team-b, `first-c` to team-c.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Self

from aiohttp import WSMsgType, web

from extauthz.demo import HOST

_OBJECT = re.compile(r"/apis/v[12]beta1/(experiments|runs|recurringruns|pipelines)/(first-([abc]))")

ECHOED_BYTES = 4096
"""How much of a request body is echoed."""

BACKLOG = 1024
"""How many connections may wait to be taken: Envoy opens one for each request that it waits for."""


class Upstream:
    """The stub on a free port of 127.0.0.1, as an async context manager.

    The JSON answer has `method`, `path` (raw, with query), `headers` (a list of name and
    value pairs, names in lower case), `bodyBytes`, and `body` (its first 4096 bytes in
    base64). A websocket below `/notebook/` first gets that JSON and then its own
    messages back. `received` counts the requests that arrived, without those for the KFP API.
    """

    def __init__(self) -> None:
        self.received = 0
        self.port = 0
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.2)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0, backlog=BACKLOG).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/apis/"):
            return _object(request.path)
        self.received += 1
        echo = await _echo(request)
        if request.path.startswith("/notebook/") and request.headers.get("upgrade", "").lower() == "websocket":
            return await _websocket(request, echo)
        return web.json_response(echo)


def _object(path: str) -> web.Response:
    """Answer as the KFP API does, as far as lookups need it."""
    if path == "/apis/v2beta1/healthz":
        return web.json_response({"multi_user": True, "pipeline_store": "database"})
    found = _OBJECT.fullmatch(path)
    if found is None:
        return web.json_response({"error": "not found", "code": 5, "message": "not found"}, status=404)
    kind, name, team = found.groups()
    namespace = f"team-{team}"
    if kind == "runs":
        reference = {"key": {"type": "NAMESPACE", "id": namespace}, "relationship": "OWNER"}
        return web.json_response({"run": {"id": name, "resource_references": [reference]}})
    key = {"experiments": "experiment_id", "recurringruns": "recurring_run_id", "pipelines": "pipeline_id"}[kind]
    return web.json_response({key: name, "display_name": name, "namespace": namespace})


async def _echo(request: web.BaseRequest) -> dict[str, Any]:
    length, start = 0, b""
    async for chunk in request.content.iter_any():
        length += len(chunk)
        start += chunk[: ECHOED_BYTES - len(start)]
    return {
        "method": request.method,
        "path": request.raw_path,
        "headers": [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.raw_headers],
        "bodyBytes": length,
        "body": base64.b64encode(start).decode(),
    }


async def _websocket(request: web.BaseRequest, echo: dict[str, Any]) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_json(echo)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket
