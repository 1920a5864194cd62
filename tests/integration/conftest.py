"""The local mesh for every test here: one shared by all, and as many of one's own as a test wants.

Servers live in the event loop that started them, so modules that use the shared fixtures say

    pytestmark = pytest.mark.asyncio(loop_scope="session")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from extauthz.demo.mesh import DemoMesh

MeshFactory = Callable[..., DemoMesh]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DemoMesh]:
    """The demo as it ships: both modes, the shipped policy, three tenants. Do not change it."""
    async with DemoMesh(tmp_path_factory.mktemp("mesh")) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client() -> AsyncIterator[ClientSession]:
    """An HTTP client; `tests.integration.envoy.send` sends paths through it exactly as written."""
    async with ClientSession() as session:
        yield session


@pytest.fixture
def new_mesh(tmp_path: Path) -> MeshFactory:
    """Make a mesh of one's own: `async with new_mesh(policies=…, manifests=…, settings={…}, envoy={…})`.

    See DemoMesh for the arguments; `settings` is laid over the demo's settings file.
    """

    def make(**options: Any) -> DemoMesh:
        return DemoMesh(tmp_path / "state", **options)

    return make
