"""The native HTTP edge answers as the aiohttp one does, over HTTP/1.1 and over HTTP/2 on the same port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import pytest
from hyperframe import frame as frames

from extauthz.edge.http import HttpEdge as AiohttpEdge
from extauthz.edge.native.http import HttpEdge
from extauthz.edge.native.requests import Http1Limits
from extauthz.errors import ConfigurationError
from extauthz.settings.listeners import HttpListener
from tests.cases import ALICE, gateway
from tests.unit.edge.native import test_http1
from tests.unit.edge.native.peer import Peer, data

LIMIT = 64
LISTENER = HttpListener(address="127.0.0.1:0", path_prefix="/check")
MODES = ("aiohttp", "http1", "http2")
Told = tuple[int, Mapping[str, str], bytes]


@pytest.fixture
async def edge() -> AsyncIterator[HttpEdge]:
    served = HttpEdge(gateway(), LISTENER, max_body_bytes=LIMIT)
    await served.start()
    yield served
    await served.stop(0)


@pytest.fixture
async def aiohttp_edge() -> AsyncIterator[AiohttpEdge]:
    served = AiohttpEdge(gateway(), LISTENER, max_body_bytes=LIMIT)
    await served.start()
    yield served
    await served.stop(0)


@pytest.fixture
async def ports(edge: HttpEdge, aiohttp_edge: AiohttpEdge) -> dict[str, int]:
    return {"aiohttp": aiohttp_edge.port, "http1": edge.port, "http2": edge.port}


async def over_http1(port: int, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Told:
    peer = test_http1.Peer(*await asyncio.open_connection("127.0.0.1", port))
    lines = [f"{method} {target} HTTP/1.1", "host: k", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"content-length: {len(body)}")
    peer.send("\r\n".join([*lines, "", ""]).encode() + body)
    told = await peer.response(bodiless=method == "HEAD")
    peer.writer.close()
    return told.status, told.headers, told.body


async def over_http2(port: int, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Told:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    await peer.handshake()
    fields = [(":method", method), (":scheme", "http"), (":path", target), (":authority", "k"), *headers.items()]
    peer.send(peer.headers(1, fields, "END_HEADERS"), data(1, body, end=True))
    head = await peer.receive(frames.HeadersFrame)
    found = peer.decoded(head)
    content = b"" if "END_STREAM" in head.flags else (await peer.receive(frames.DataFrame)).data
    await peer.close()
    return int(found.pop(":status")), found, content


async def send(
    ports: Mapping[str, int], mode: str, target: str, *, method: str = "GET", body: bytes = b"", **headers: str
) -> Told:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    ask = over_http2 if mode == "http2" else over_http1
    return await ask(ports[mode], method, target, named, body)


async def everywhere(
    ports: Mapping[str, int], target: str, method: str = "GET", body: bytes = b"", **headers: str
) -> Told:
    """Ask in all modes; return the one answer that all must give."""
    answers = [await send(ports, mode, target, method=method, body=body, **headers) for mode in MODES]
    for status, found, content in answers[1:]:
        found = {name: found[name] for name in found if method != "HEAD" or name != "content-length"}
        assert (status, content) == (answers[0][0], answers[0][2])
        assert found.items() <= answers[0][1].items()
    return answers[0]


async def test_an_allowed_request(ports: dict[str, int]) -> None:
    """The user's name, and what is to be removed."""
    status, headers, _ = await everywhere(ports, "/check/app", kubeflow_userid="mallory")
    assert (status, headers["kubeflow-userid"]) == (200, ALICE)
    assert "kubeflow_userid" in headers["x-envoy-auth-headers-to-remove"]


@pytest.mark.parametrize(
    "target",
    [
        *("/check/unknown", "/app", "/checked/app", "/check", "/", "/check//app", "/check/app/../app", "/check/%61pp"),
        *("/check/app%2f", "/check/app?a=1&a=2", "/check/app#x", "/check/app;a", "/check/" + "a" * 20_000),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "TRACE"])
async def test_refusals(ports: dict[str, int], target: str, method: str) -> None:
    """Each of them says the same in every mode; the raw target is judged."""
    status, _, body = await everywhere(ports, target, method)
    assert status in (400, 403)
    assert bool(body) is (method != "HEAD")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"display_name":"x","namespace":"team-a"}', {"x_envoy_auth_partial_body": "false"}, 200),
        (b'{"display_name":"x","namespace":"team-b"}', {"x_envoy_auth_partial_body": "false"}, 403),
        (b'{"display_name":"x","namespace":"team-a"}', {"x_envoy_auth_partial_body": "true"}, 400),
        (b'{"display_name":"x","namespace":"team-a"}', {}, 400),
        (b'{"namespace":"team-a","display_name":"' + b"x" * LIMIT, {"x_envoy_auth_partial_body": "false"}, 400),
        (b'{"namespace":"team-a","x":"' + b"x" * (LIMIT - 29) + b'"}', {"x_envoy_auth_partial_body": "false"}, 400),
    ],
)
async def test_bodies(ports: dict[str, int], body: bytes, headers: dict[str, str], status: int) -> None:
    """Only a whole one below the limit is read."""
    target = "/check/pipeline/apis/v2beta1/experiments"
    assert (await everywhere(ports, target, "POST", body, **headers))[0] == status


async def test_crumbs_of_a_cookie_and_two_values(edge: HttpEdge) -> None:
    """Cookies are put together again; other values are joined by commas, and so stay visible."""
    peer = Peer(*await asyncio.open_connection("127.0.0.1", edge.port))
    await peer.handshake()
    head = [(":method", "GET"), (":scheme", "http"), (":path", "/check/app"), (":authority", "k")]
    for stream, more, status in (
        (1, [("cookie", "a=1"), ("cookie", "b=2"), ("x", "1"), ("x", "2")], "200"),
        (3, [("x-http-method", "PUT")], "400"),
        (5, [("host", "k")], "200"),
        (7, [("host", "other")], "400"),
    ):
        peer.send(peer.headers(stream, [*head, *more]))
        assert (await peer.response(stream))[0] == status
    await peer.close()


async def test_what_begins_like_http2_and_is_not(edge: HttpEdge) -> None:
    """The first bytes are kept until they tell."""
    peer = test_http1.Peer(*await asyncio.open_connection("127.0.0.1", edge.port))
    for piece in (b"P", b"OST /check/app HTTP/1.1\r\n", b"host: k\r\ncontent-length: 0\r\n\r\n"):
        peer.send(piece)
        await peer.writer.drain()
    assert (await peer.response()).status == 403
    peer.writer.close()


async def test_what_is_no_request(edge: HttpEdge) -> None:
    """400, in plain words."""
    peer = test_http1.Peer(*await asyncio.open_connection("127.0.0.1", edge.port))
    peer.send(b"GET /check/app HTTP/1.1\r\n\r\n")
    assert (await peer.response()).status == 400
    peer.writer.close()


async def test_a_connection_that_never_begins(edge: HttpEdge) -> None:
    """It is closed after a time, or when the server stops."""
    late, stopped = [test_http1.Peer(*await asyncio.open_connection("127.0.0.1", edge.port)) for _ in range(2)]
    late.send(b"PRI * HT")
    stopped.send(b"P")
    await everywhere_once(edge)
    edge._server._connections.tick(asyncio.get_running_loop().time() + Http1Limits().arrive_seconds + 1)
    assert await late.closed() == b""
    third = test_http1.Peer(*await asyncio.open_connection("127.0.0.1", edge.port))
    await everywhere_once(edge)
    stopping = asyncio.create_task(edge.stop(60))
    assert await third.closed() == b""
    for peer in (late, stopped, third):
        peer.writer.close()
    await stopping


async def everywhere_once(edge: HttpEdge) -> None:
    """Make sure that the edge has seen all connections before this one."""
    assert (await over_http1(edge.port, "GET", "/check/app", {}, b""))[0] == 200


async def test_a_broken_gateway_refuses() -> None:
    """An exception in the edge itself is a refusal too, in both protocols."""
    broken = gateway()
    broken.policy = broken.identity_headers = None  # type: ignore[assignment]  # the fault to survive
    served = HttpEdge(broken, LISTENER, max_body_bytes=LIMIT)
    await served.start()
    for ask in (over_http1, over_http2):
        status, _, body = await ask(served.port, "GET", "/check/app", {}, b"")
        assert status == 503
        assert b"Error" not in json.dumps(body.decode()).encode()
    await served.stop(0)


async def test_a_taken_port_is_said(edge: HttpEdge) -> None:
    """The address is named."""
    second = HttpEdge(gateway(), HttpListener(address=f"127.0.0.1:{edge.port}"), max_body_bytes=LIMIT)
    with pytest.raises(ConfigurationError, match=str(edge.port)):
        await second.start()
    await second.stop(0)
