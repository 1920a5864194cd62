"""Rotations and outages of an issuer under load: 300 requests a second through Envoy, each with a token of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.identities import TokenLoad, mesh_in, settings, status, token
from tests.issuer import Issuer, KeyServer, SigningKey, rsa_key

FORGER = rsa_key("load-forger")
COOLDOWN_SECONDS = 1
REFRESH_SECONDS = 1
PATIENCE_SECONDS = 120
"""How long a test waits for what must happen; a machine may stall for seconds."""


@dataclass(frozen=True, slots=True)
class World:
    """An issuer, a mesh that believes it, and the load, with a client for single requests."""

    server: KeyServer
    load: TokenLoad
    client: aiohttp.ClientSession
    url: str

    async def ask(self, key: SigningKey) -> int:
        """Return the status of one more request, with a token of a key."""
        return await status(self.client, self.url, token(self.server.issuer, key))

    def nobody_suffered(self) -> bool:
        """Tell whether every valid token passed and every forged one was refused."""
        return set(self.load.outcomes) == {("valid", 200), ("forged", 401)}


@asynccontextmanager
async def loaded(folder: Path, key: SigningKey, patience: float) -> AsyncIterator[World]:
    """Send while the block runs. Deadlines are long: what is shown is who passes, not how fast."""
    async with (
        asyncio.timeout(patience),
        KeyServer(Issuer(keys=[key])) as server,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout()) as client,
        aiohttp.ClientSession() as other,  # whose requests queue behind no others
    ):
        server.issuer.name = server.url
        keys = {"discovery": True, "cooldownSeconds": COOLDOWN_SECONDS, "refreshSeconds": REFRESH_SECONDS}
        configured: dict[str, Any] = {
            **settings(server.url, server.issuer.audience, keys, maxCachedTokens=0),
            "deadlineSeconds": 25,
        }
        async with (
            mesh_in(folder, settings=configured, envoy={"timeout_seconds": 30}) as mesh,
            TokenLoad(client, mesh.urls, server.issuer, FORGER).running() as load,
        ):
            yield World(server, load, other, mesh.urls["grpc"])


async def test_keys_rotate_under_load_without_a_refusal_or_a_hole(tmp_path: Path) -> None:
    """No valid token is refused across two rotations, and none of a forger, or of a withdrawn key, is allowed.

    The issuer publishes a key and signs with it at once; it withdraws the old one when its
    tokens are out of use, and rotates again when the cool-down of the first time is over.
    """
    old, new, newest = (rsa_key(f"rotation-{number}") for number in range(3))
    async with loaded(tmp_path, old, PATIENCE_SECONDS) as world:
        await world.load.settled(old, COOLDOWN_SECONDS)
        world.server.issuer.keys = [new, old]
        await world.load.settled(new, COOLDOWN_SECONDS)
        world.server.issuer.keys = [newest, new]
        await world.load.settled(newest, COOLDOWN_SECONDS)
        assert await world.ask(old) == 401
    assert world.nobody_suffered()


async def outage(folder: Path, caplog: pytest.LogCaptureFixture, seconds: float = 0) -> TokenLoad:
    """Take the issuer down for so long, and for three failed fetches at least; bring it back, and return the load."""
    key, clock = rsa_key("outage"), asyncio.get_running_loop().time
    async with loaded(folder, key, 10 * seconds + PATIENCE_SECONDS) as world:
        await world.load.settled(key, 0)
        await world.server.down()
        over = clock() + seconds
        await world.load.until(lambda: clock() >= over and caplog.text.count("not fetched") >= 3)
        await world.server.up()
        fetched = world.server.fetches
        await world.load.until(lambda: world.server.fetches > fetched)
        assert await world.ask(key) == 200
    assert world.nobody_suffered()
    return world.load


async def test_an_outage_of_the_issuer_costs_nobody_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While it is down its keys go on verifying: valid tokens pass, forged ones do not."""
    await outage(tmp_path, caplog)


@pytest.mark.soak
async def test_an_outage_of_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same for the whole minute that the issuer is down."""
    load = await outage(tmp_path, caplog, seconds=60)
    failed = caplog.text.count("not fetched")
    print(f"\n{load.answered} requests, {failed} failed fetches: {dict(load.outcomes)}")
