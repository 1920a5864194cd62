"""The native HTTP/2 server conforms: every test of h2spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from extauthz.edge.native.grpc import GrpcEdge
from extauthz.edge.native.h2.limits import Limits
from extauthz.edge.native.http import HttpEdge
from extauthz.settings.listeners import GrpcListener, HttpListener
from tests.cases import gateway
from tests.integration.h2spec import MISSING, failures, find

ALL = 145
ADDRESS = "127.0.0.1:0"


@pytest.fixture
async def program() -> Path:
    found = await find()
    if found is None:
        pytest.skip(MISSING)
    return found


async def test_the_grpc_edge(program: Path) -> None:
    """All of RFC 9113 and RFC 7541 that h2spec tests, with an HPACK table, which some of its tests take for granted."""
    edge = GrpcEdge(gateway(), GrpcListener(address=ADDRESS), max_body_bytes=1000, limits=Limits(header_table=True))
    await edge.start()
    assert await failures(program, edge.port) == (ALL, set())
    await edge.stop(0)


async def test_the_grpc_edge_without_a_table(program: Path) -> None:
    """As it is run: two tests use a table although we announce that there is none, and are rightly refused."""
    edge = GrpcEdge(gateway(), GrpcListener(address=ADDRESS), max_body_bytes=1000)
    await edge.start()
    count, failed = await failures(program, edge.port)
    assert count == ALL
    assert failed == {
        "generic/5: Sends a dynamic table size update",
        "generic/5: Sends multiple dynamic table size update",
    }
    await edge.stop(0)


async def test_the_http_edge(program: Path) -> None:
    """Over its shared port, where an invalid preface is an invalid HTTP/1.1 request and is answered as one."""
    listener = HttpListener(address=ADDRESS)
    edge = HttpEdge(gateway(), listener, max_body_bytes=1000, http2_limits=Limits(header_table=True))
    await edge.start()
    count, failed = await failures(program, edge.port)
    assert (count, failed) == (ALL, {"http2/3.5: Sends invalid connection preface"})
    await edge.stop(0)
