"""Whichever server an edge runs on, the whole demo holds through Envoy."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession

from extauthz.demo import scenario
from tests.integration.conftest import MeshFactory


@pytest.mark.parametrize(("grpc", "http"), [("grpcio", "aiohttp"), ("native", "native")])
async def test_every_case_holds(new_mesh: MeshFactory, grpc: str, http: str) -> None:
    """The choice of a server is a matter of cost alone."""
    listeners = {"grpc": {"server": grpc}, "http": {"server": http}}
    async with new_mesh(settings={"listeners": listeners}) as mesh, ClientSession() as client:
        results = await scenario.verify(client, mesh)
    assert [result for result in results if not result.holds] == []
