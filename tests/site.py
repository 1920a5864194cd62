"""A web server whose pages a test writes."""

from __future__ import annotations

from aiohttp import web


class Site:
    """A web server whose pages a test writes; it keeps the requests."""

    def __init__(self) -> None:
        self.pages: dict[str, web.Response | bytes] = {}
        self.requests: list[web.BaseRequest] = []
        self.url = ""

    async def __aenter__(self) -> Site:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def paths(self) -> list[str]:
        """What was asked for."""
        return [request.path for request in self.requests]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404)
        return (
            web.Response(body=page)
            if isinstance(page, bytes)
            else web.Response(status=page.status, headers=page.headers, body=page.body)
        )
