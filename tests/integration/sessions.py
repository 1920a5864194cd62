"""oauth2-proxy with one session of alice, and the authenticators that ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from extauthz.errors import ExtauthzError
from extauthz.identity import Authenticators
from extauthz.settings.identity import Identity
from extauthz.subject import Subject
from tests.issuer import Clock, Issuer, asking, authenticated
from tests.oauth2proxy import COOKIE, OAuth2Proxy

LOGIN = "/oauth2/start?rd=%2Fx"


class World:
    """oauth2-proxy with one session of alice, and the authenticators that ask it."""

    def __init__(self, proxy: OAuth2Proxy, folder: Path, **session: Any) -> None:
        self.proxy = proxy
        self.issuer = Issuer()
        self.clock = Clock()
        self.jwks = folder / "jwks.json"
        self.jwks.write_bytes(self.issuer.jwks())
        issuer = {"issuer": self.issuer.name, "audiences": [self.issuer.audience], "keys": {"file": "jwks.json"}}
        settings = {"url": proxy.url, "cookie": COOKIE, **session}
        identity = Identity.model_validate({"jwt": [issuer], "session": settings})
        self.authenticators = Authenticators(identity, resolve=folder.joinpath, clock=self.clock, monotonic=self.clock)
        proxy.sessions["one"] = self.issuer.token()

    async def ask(self, cookie: str | None = f"{COOKIE}=one", **headers: str) -> Subject | None:
        """Authenticate a request with this cookie header."""
        return await authenticated(self.authenticators, asking({"cookie": cookie, **headers} if cookie else headers))

    async def fault(self, *cookie: str, **headers: str) -> ExtauthzError:
        """Return the error of a request."""
        with pytest.raises(ExtauthzError) as raised:
            await self.ask(*cookie, **headers)
        return raised.value


@asynccontextmanager
async def opened(folder: Path, **session: Any) -> AsyncIterator[World]:
    async with OAuth2Proxy() as proxy:
        world = World(proxy, folder, **session)
        await world.authenticators.start()
        try:
            yield world
        finally:
            await world.authenticators.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as world:
        yield world
