"""The differential test's routes in aiohttp; prints its port, then answers with what it dispatched to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROUTES = {
    "runs": ("GET", "/api/namespaces/{ns}/runs"),
    "run": ("GET", "/api/namespaces/{ns}/runs/{name}"),
    "terminate": ("POST", "/api/namespaces/{ns}/runs/{name}/terminate"),
    "listed": ("GET", "/list"),
    "notebook": ("*", "/notebook/{ns}/{name}/{rest:.*}"),
    "admin": ("*", "/admin"),
    "files": ("GET", "/files/{rest:.*}"),
}


def handler(route: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        found = request.match_info
        namespace = found.get("ns", request.query.get("namespace", "") if route == "listed" else "")
        return web.json_response([route, namespace, found.get("name", "")])

    return handle


async def main() -> None:
    app = web.Application()
    for route, (method, path) in ROUTES.items():
        app.router.add_route(method, path, handler(route))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
