"""Somebody who opens the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import ClientResponse, ClientSession

from extauthz.console.guard import COOKIE
from extauthz.demo.mesh import DemoMesh
from extauthz.demo.scenario import tokens


class Visitor:
    """Asks for pages and sends forms without a browser; `origin` is where the console's own pages are."""

    def __init__(self, mesh: DemoMesh, client: ClientSession) -> None:
        self._tokens = tokens(mesh.signer)
        self._url = f"{mesh.admin_url}/console"
        self._client = client
        self.origin = mesh.admin_url

    def bearer(self, who: str) -> dict[str, str]:
        """Return the header that proves somebody."""
        return {"authorization": f"Bearer {self._tokens[who]}"}

    def cookie(self, who: str) -> dict[str, str]:
        """Return the header with which a browser proves somebody."""
        return {"cookie": f"{COOKIE}={self._tokens[who]}"}

    async def get(self, path: str, **headers: str) -> tuple[int, str, ClientResponse]:
        """Return status, text and answer of a page."""
        return await self._ask("GET", path, headers, None)

    async def post(self, path: str, form: Mapping[str, str], **headers: str) -> tuple[int, str, ClientResponse]:
        """Send a form."""
        return await self._ask("POST", path, headers, form)

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, str, ClientResponse]:
        options: dict[str, Any] = {"headers": headers, "data": form, "allow_redirects": False}
        async with self._client.request(method, self._url + path, **options) as response:
            return response.status, await response.text(), response
