"""A server of the HTTP/2 engine, connections to it, and a gateway behind both edges."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extauthz import policy
from tests.unit.edge.native.peer import Application, Connect, Peer, served
from tests.unit.edge.native.test_memory_law import RULES, TEAMS, USERS
from tests.unit.edge.native.world import World


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
async def connect(application: Application) -> AsyncIterator[Connect]:
    async with served(application) as (_, opener):
        yield opener


@pytest.fixture
async def peer(connect: Connect) -> Peer:
    """A connection after its handshake."""
    opened = await connect()
    await opened.handshake()
    return opened


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A gateway where everybody may do everything."""
    file = tmp_path / "policy.yaml"
    file.write_text(RULES)
    world = World(tmp_path, policy.load([file], {}))
    world.rights |= {(user, team) for user in USERS for team in TEAMS}
    return world
