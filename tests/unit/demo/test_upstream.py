"""The stub Kubeflow tells what it received."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from yarl import URL

from extauthz.demo import HOST
from extauthz.demo.upstream import ECHOED_BYTES, Upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A running stub."""
    async with Upstream() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    """A client for it."""
    async with ClientSession() as session:
        yield session


def _url(upstream: Upstream, path: str) -> URL:
    return URL(f"http://{HOST}:{upstream.port}{path}", encoded=True)


async def test_echo_is_exact(upstream: Upstream, client: ClientSession) -> None:
    """Method, raw path, duplicate headers in order, and the start of the body come back unchanged."""
    body = b"b" * (ECHOED_BYTES + 1)
    headers = [("X-Twice", "1"), ("X-Twice", "2")]
    async with client.patch(_url(upstream, "/a%2f%zz/..//b?x=%20&x"), data=body, headers=headers) as response:
        echo = await response.json()
    assert (echo["method"], echo["path"]) == ("PATCH", "/a%2f%zz/..//b?x=%20&x")
    assert [value for name, value in echo["headers"] if name == "x-twice"] == ["1", "2"]
    assert echo["bodyBytes"] == len(body)
    assert base64.b64decode(echo["body"]) == body[:ECHOED_BYTES]


async def test_requests_are_counted(upstream: Upstream, client: ClientSession) -> None:
    """The count tells whether a request arrived at all."""
    async with client.head(_url(upstream, "/")) as response:
        assert await response.read() == b""
    assert upstream.received == 1


async def test_notebook_websocket_echoes(upstream: Upstream, client: ClientSession) -> None:
    """A notebook's websocket first tells what was received, then echoes text and bytes."""
    async with client.ws_connect(_url(upstream, "/notebook/team-a/nb/api/kernels")) as socket:
        assert (await socket.receive_json())["method"] == "GET"
        await socket.send_str("text")
        await socket.send_bytes(b"bytes")
        assert [await socket.receive_str(), await socket.receive_bytes()] == ["text", b"bytes"]


async def test_a_connection_may_outlive_the_stub(client: ClientSession) -> None:
    """The stub stops although a client keeps its websocket open."""
    async with Upstream() as upstream:
        socket = await client.ws_connect(_url(upstream, "/notebook/team-a/nb/"))
        await socket.receive_json()
    assert (await socket.receive()).type.name in {"CLOSE", "CLOSED", "CLOSING"}
    await socket.close()
