"""Fixtures to import into a `conftest.py`: the double alone, or each API server there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from extauthz.access.kubernetes.connection import Connection
from tests.apiserver import real
from tests.apiserver.cluster import Cluster
from tests.apiserver.double import Double
from tests.apiserver.manifests import delegate

_SERVERS = ["double", "real"] if real.assets() else ["double"]


@pytest.fixture
async def double(tmp_path: Path) -> AsyncIterator[Double]:
    """The double, over TLS, with the rights that extauthz needs."""
    async with Double.running(tmp_path) as server:
        await server.apply(*delegate())
        server.calls.clear()
        yield server


@pytest.fixture(scope="session")
def real_api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL and authority of a real API server for the whole run."""
    binaries = real.assets()
    assert binaries, "KUBEBUILDER_ASSETS names no folder"
    with real.running(binaries, tmp_path_factory.mktemp("kube-apiserver")) as address:
        yield address


@pytest.fixture(params=_SERVERS)
async def api_server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Each API server in turn: the double, and a real one where KUBEBUILDER_ASSETS names its binaries."""
    if request.param == "double":
        async with Double.running(tmp_path) as server:
            await server.apply(*delegate())
            yield server
        return
    url, ca = request.getfixturevalue("real_api_server")
    async with real.RealCluster(url, ca, tmp_path) as cluster:
        await cluster.apply(*delegate())
        await cluster.settled()
        yield cluster


@pytest.fixture
async def connection(double: Double) -> AsyncIterator[Connection]:
    """A connection to the double as extauthz's ServiceAccount."""
    async with await Connection.open(kubeconfig=double.kubeconfig()) as connection:
        yield connection
