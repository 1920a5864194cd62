"""A server of the HTTP/2 engine, and connections to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.edge.native.peer import Application, Connect, Peer, served


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
