"""The stub Kubeflow as servers on 127.0.0.1: one behind the ingress gateway, one as `ml-pipeline:8888`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Self

from aiohttp import web

from extauthz.demo import HOST
from tests.kubeflow.apps import Served, serve
from tests.kubeflow.objects import Store
from tests.kubeflow.pipelines import PipelinesApi
from tests.kubeflow.wire import Answer, Call

_APIS = re.compile(r"/pipeline/(?i:apis/v[12]beta1)/")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Kubeflow:
    """The stub, as an async context manager. Objects are in `store`; `calls` lists what came through the gateway.

    What was done is in `api.done` and, for the web apps, in `served`.

    `port` is what stands behind the ingress gateway; `api_port` is the API server of KFP,
    which also answers lookups.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.api = PipelinesApi(self.store)
        self.calls: list[Call] = []
        self.port = self.api_port = 0
        self.served: list[Served] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.port = await _serve(stack, self._gateway)
            self.api_port = await _serve(stack, self._api)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _gateway(self, request: web.BaseRequest) -> web.StreamResponse:
        call = await _call(request)
        self.calls.append(call)
        return _response(self._answer(call), head=request.method == "HEAD")

    def _answer(self, call: Call) -> Answer:
        """Route as the VirtualServices do; the UI server hands `/apis` on to the API server."""
        if _APIS.match(call.path):
            return self.api.answer(dataclasses.replace(call, path=call.path.removeprefix("/pipeline")))
        served, answered = serve(call)
        if served:
            self.served.append(served)
        return answered

    async def _api(self, request: web.BaseRequest) -> web.StreamResponse:
        return _response(self.api.answer(await _call(request)))


async def _serve(stack: AsyncExitStack, handler: Handler) -> int:
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, HOST, 0).start()
    port: int = runner.addresses[0][1]
    return port


async def _call(request: web.BaseRequest) -> Call:
    path, _, query = request.raw_path.partition("?")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Call(request.method, path, query, headers, await request.read())


def _response(answer: Answer, *, head: bool = False) -> web.Response:
    headers = {"location": answer.location} if answer.location else {}
    headers["content-type"] = answer.content_type
    return web.Response(status=answer.status, headers=headers, body=b"" if head else answer.body)
