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


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/apis/v2beta1/experiments/first-a", {"experiment_id": "first-a", "namespace": "team-a"}),
        ("/apis/v2beta1/pipelines/first-b", {"pipeline_id": "first-b", "namespace": "team-b"}),
        ("/apis/v2beta1/recurringruns/first-c", {"recurring_run_id": "first-c", "namespace": "team-c"}),
    ],
)
async def test_objects_have_namespaces(
    upstream: Upstream, client: ClientSession, path: str, expected: dict[str, str]
) -> None:
    """What lookups ask for is answered as the KFP API does, and is no request of a user."""
    async with client.get(_url(upstream, path)) as response:
        assert expected.items() <= (await response.json()).items()
    assert upstream.received == 0


async def test_a_run_has_its_namespace_as_a_reference(upstream: Upstream, client: ClientSession) -> None:
    """Runs are asked of the API that tells their namespace."""
    async with client.get(_url(upstream, "/apis/v1beta1/runs/first-a")) as response:
        (reference,) = (await response.json())["run"]["resource_references"]
    assert reference["key"] == {"type": "NAMESPACE", "id": "team-a"}


async def test_pipelines_are_in_its_database(upstream: Upstream, client: ClientSession) -> None:
    """So a list without a namespace shows the shared ones only."""
    async with client.get(_url(upstream, "/apis/v2beta1/healthz")) as response:
        assert await response.json() == {"multi_user": True, "pipeline_store": "database"}


async def test_other_objects_are_unknown(upstream: Upstream, client: ClientSession) -> None:
    """Every other id is answered with 404."""
    async with client.get(_url(upstream, "/apis/v1beta1/runs/second")) as response:
        assert response.status == 404
