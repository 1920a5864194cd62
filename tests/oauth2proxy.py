"""A stand-in for oauth2-proxy's auth endpoint: knows cookies, counts questions, fails as it is told."""

from __future__ import annotations

import asyncio

from aiohttp import web

COOKIE = "oauth2_proxy_kubeflow"


class OAuth2Proxy:
    """Serves `/oauth2/auth` on 127.0.0.1.

    `sessions` maps the value of the session's cookies (parts in order, joined) to a token.
    `refreshed` are cookies to set with each good answer. With `hold` set, answers wait for it.
    A good answer has the status `good`, and any other is `status` where that is set.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}
        self.header = "authorization"
        self.refreshed: list[str] = []
        self.status: int | None = None
        self.good = 202
        self.asked: list[dict[str, str]] = []
        self.hold: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> OAuth2Proxy:
        application = web.Application()
        application.router.add_get("/oauth2/auth", self._auth)
        application.router.add_get("/elsewhere", self._auth)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/oauth2/auth"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.hold:
            self.hold.set()
        await self._runner.cleanup()

    async def _auth(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.cookies))
        self.arrived.set()
        if self.hold:
            await self.hold.wait()
        if self.status == 302:
            raise web.HTTPFound("/elsewhere")
        if self.status:
            return web.Response(status=self.status)
        parts = [value for name, value in sorted(request.cookies.items()) if name.startswith(COOKIE)]
        token = self.sessions.get("".join(parts))
        if token is None:
            return web.Response(status=401)
        response = web.Response(status=self.good)
        response.headers[self.header] = f"Bearer {token}" if self.header == "authorization" else token
        for cookie in self.refreshed:
            response.headers.add("set-cookie", cookie)
        return response
