"""The HTTP edge over real sockets: the raw request line counts, and only 200 allows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from extauthz.decision import Decision
from extauthz.edge.http import HttpEdge
from extauthz.errors import ConfigurationError
from extauthz.gateway import Gateway
from extauthz.settings import ResponseSettings
from extauthz.settings.listeners import HttpListener
from tests.cases import ALICE, gateway

LIMIT = 64


@pytest.fixture
async def edge() -> AsyncIterator[HttpEdge]:
    served = HttpEdge(gateway(), HttpListener(address="127.0.0.1:0", path_prefix="/check"), max_body_bytes=LIMIT)
    await served.start()
    yield served
    await served.stop(1)


async def send(edge: HttpEdge, raw: str | bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are, so that no client library can tidy them up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(raw.encode() if isinstance(raw, str) else raw)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0"))) if not str(raw).startswith("HEAD") else b""
    writer.close()
    await writer.wait_closed()
    return int(head[0].split(" ")[1]), headers, body


def get(target: str, *headers: str) -> str:
    return "\r\n".join([f"GET {target} HTTP/1.1", "host: kubeflow.example", *headers, "", ""])


async def test_an_allowed_request_gets_its_headers_and_removals(edge: HttpEdge) -> None:
    """Envoy copies the listed headers and takes off what we name."""
    status, headers, _ = await send(edge, get("/check/app", "kubeflow-userid: mallory"))
    assert status == 200
    assert headers["kubeflow-userid"] == ALICE
    assert "kubeflow_userid" in headers["x-envoy-auth-headers-to-remove"].split(",")


async def test_a_refusal_is_told(edge: HttpEdge) -> None:
    """Status, body and headers reach the client through Envoy."""
    status, headers, body = await send(edge, get("/check/unknown"))
    assert status == 403
    assert json.loads(body)["kind"] == "Status"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("target", ["/app", "/checked/app", "/check", "/", "*", "http://kubeflow.example/check/app"])
async def test_a_request_that_did_not_come_through_the_provider_is_refused(edge: HttpEdge, target: str) -> None:
    """Without the prefix nobody knows what the path means."""
    status, _, _ = await send(edge, get(target))
    assert status in (400, 403)


@pytest.mark.parametrize(
    "target", ["/check//app", "/check/app/../app", "/check/%61pp", "/check/app%2f", "/check/app?a=1&a=2"]
)
async def test_the_raw_path_is_judged_not_a_tidied_one(edge: HttpEdge, target: str) -> None:
    """A library that normalises first would hide the fault."""
    status, _, _ = await send(edge, get(target))
    assert status == 400


async def test_two_values_of_a_header_stay_visible(edge: HttpEdge) -> None:
    """They are joined as Envoy joins them."""
    twice = get("/check/app", "content-encoding: gzip", "cookie: a=1", "cookie: b=2", "x-user: a", "x-user: b")
    assert (await send(edge, twice))[0] == 200
    assert (await send(edge, get("/check/app", "x-http-method: PUT", "x-http-method: DELETE")))[0] == 400


def post(body: bytes, *headers: str) -> bytes:
    lines = [
        "POST /check/pipeline/apis/v2beta1/experiments HTTP/1.1",
        "host: kubeflow.example",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_a_body_that_envoy_showed_whole_is_read(edge: HttpEdge) -> None:
    """Experiments are created in the namespace that the body names."""
    body = b'{"display_name":"x","namespace":"team-a"}'
    assert (await send(edge, post(body, "x-envoy-auth-partial-body: false")))[0] == 200
    other = b'{"display_name":"x","namespace":"team-b"}'
    assert (await send(edge, post(other, "x-envoy-auth-partial-body: false")))[0] == 403


@pytest.mark.parametrize("header", ["x-envoy-auth-partial-body: true", "x-nothing: here"])
async def test_a_body_that_may_be_cut_is_not_read(edge: HttpEdge, header: str) -> None:
    """Neither truncated nor unbuffered bodies count."""
    body = b'{"display_name":"x","namespace":"team-a"}'
    status, _, told = await send(edge, post(body, header))
    assert status == 400
    assert json.loads(told)["details"]["causes"][0]["reason"] in ("body_truncated", "body_not_shown")


async def test_a_body_at_the_limit_counts_as_cut(edge: HttpEdge) -> None:
    """Envoy announces a first chunk of exactly the buffer's size as whole."""
    body = b'{"namespace":"team-a","display_name":"' + b"x" * LIMIT
    status, _, told = await send(edge, post(body, "x-envoy-auth-partial-body: false"))
    assert (status, json.loads(told)["details"]["causes"][0]["reason"]) == (400, "body_truncated")


async def test_a_compressed_body_is_not_unpacked(edge: HttpEdge) -> None:
    """The upstream might not unpack it, or unpack it differently."""
    import gzip

    packed = gzip.compress(b'{"namespace":"team-a"}')
    raw = post(packed, "content-encoding: gzip", "x-envoy-auth-partial-body: false")
    status, _, told = await send(edge, raw)
    assert (status, json.loads(told)["details"]["causes"][0]["reason"]) == (400, "body_encoded")


async def test_head_is_refused_without_a_body(edge: HttpEdge) -> None:
    """RFC 9110 section 9.3.2."""
    status, headers, _ = await send(edge, "HEAD /check/unknown HTTP/1.1\r\nhost: k\r\n\r\n")
    assert status == 403
    assert headers["content-type"] == "application/json"


async def test_a_broken_gateway_refuses() -> None:
    """An exception in the edge itself is a refusal too, and tells nothing."""

    class Broken(Gateway):
        def decide(self, request: object) -> Decision:
            raise RuntimeError("boom")

    built = gateway()
    built.__class__ = Broken
    served = HttpEdge(built, HttpListener(address="127.0.0.1:0"), max_body_bytes=LIMIT)
    await served.start()
    try:
        status, _, body = await send(served, get("/app"))
    finally:
        await served.stop(1)
    assert status == 503
    assert b"boom" not in body


async def test_an_edge_that_never_started_can_be_stopped() -> None:
    """Where a later part of the start fails, everything is stopped."""
    await HttpEdge(gateway(), HttpListener(), max_body_bytes=LIMIT).stop(1)


async def test_nothing_is_removed_where_nothing_could_be_spoofed() -> None:
    """An identity header without a dash has no twin, and it is always set."""
    response = ResponseSettings(user_header="user", groups_header=None)
    served = HttpEdge(gateway(response=response), HttpListener(address="127.0.0.1:0"), max_body_bytes=LIMIT)
    await served.start()
    try:
        status, headers, _ = await send(served, get("/app", "user: mallory"))
    finally:
        await served.stop(1)
    assert (status, headers["user"]) == (200, ALICE)
    assert "x-envoy-auth-headers-to-remove" not in headers


async def test_a_taken_port_is_said(edge: HttpEdge) -> None:
    """The address is named."""
    second = HttpEdge(gateway(), HttpListener(address=f"127.0.0.1:{edge.port}"), max_body_bytes=LIMIT)
    with pytest.raises(ConfigurationError, match=str(edge.port)):
        await second.start()
    await second.stop(0)


async def test_public_paths_remove_every_identity_header() -> None:
    """Nothing is set for nobody, so nothing of the client's may stay."""
    served = HttpEdge(
        gateway("", response=ResponseSettings()), HttpListener(address="127.0.0.1:0"), max_body_bytes=LIMIT
    )
    await served.start()
    try:
        status, headers, _ = await send(served, get("/public", "kubeflow-userid: admin"))
    finally:
        await served.stop(1)
    assert status == 200
    assert "kubeflow-userid" not in headers
    assert "kubeflow-userid" in headers["x-envoy-auth-headers-to-remove"].split(",")


@pytest.mark.parametrize("length", [9_000, 50_000])
async def test_whatever_envoy_lets_pass_is_read(edge: HttpEdge, length: int) -> None:
    """Envoy forwards 60 KiB of headers: long tokens, cookies and paths get the gRPC edge's answers."""
    assert (await send(edge, get("/check/app", f"cookie: {'a' * length}")))[0] == 200
    status, _, told = await send(edge, get("/check/app?x=" + "a" * length))
    assert status == (200 if length < 16_000 else 400)
    if status == 400:
        assert json.loads(told)["details"]["causes"][0]["reason"] == "target_too_long"


async def test_a_hundred_headers_are_read(edge: HttpEdge) -> None:
    """As many as Envoy lets pass by default, and those that it adds."""
    assert (await send(edge, get("/check/app", *(f"x-{number}: 1" for number in range(110)))))[0] == 200
