"""Envoy, started and configured as the demo does it: what it asks, what it passes on, and that it goes away."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession, WSMsgType

from extauthz.demo import HOST, DemoError
from extauthz.demo.envoy import Envoy, EnvoyConfig
from tests.integration.envoy import Harness, harness, send

MODES = ("grpc", "http")
LIMIT = 128

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="mesh")
async def _harness(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harness]:
    async with harness(tmp_path_factory.mktemp("envoy"), max_request_bytes=LIMIT) as running:
        yield running


def _checked_path(mesh: Harness, mode: str) -> str:
    if mode == "http":
        return mesh.http.checks[-1][0].removeprefix("/check")
    return str(mesh.grpc.checks[-1].attributes.request.http.path)


def _checked_body(mesh: Harness, mode: str) -> tuple[bytes, str | None]:
    """The body that was sent to the check, and what Envoy says about its being partial."""
    if mode == "http":
        _, headers, body = mesh.http.checks[-1]
        return body, headers.get("x-envoy-auth-partial-body")
    http = mesh.grpc.checks[-1].attributes.request.http
    return http.raw_body, http.headers.get("x-envoy-auth-partial-body")


@pytest.mark.parametrize("mode", MODES)
async def test_allowed_request_reaches_upstream_with_the_identity_of_the_check(
    mesh: Harness, client: ClientSession, mode: str
) -> None:
    """An allowed request arrives with the checked identity instead of both values that the client claimed."""
    spoof = [("kubeflow-userid", "one"), ("kubeflow-userid", "two")]
    async with send(client, "GET", mesh.urls[mode], "/hello?a=1", headers=spoof) as response:
        echo = await response.json()
    assert response.status == 200
    assert (echo["method"], echo["path"]) == ("GET", "/hello?a=1")
    assert [value for name, value in echo["headers"] if name == "kubeflow-userid"] == ["checked"]


@pytest.mark.parametrize("mode", MODES)
async def test_denied_request_does_not_reach_upstream(mesh: Harness, client: ClientSession, mode: str) -> None:
    """A refusal is the client's answer, and the upstream hears nothing of the request."""
    before = mesh.upstream.received
    async with send(client, "GET", mesh.urls[mode], "/deny") as response:
        assert response.status == 403
    assert mesh.upstream.received == before


async def test_only_listed_headers_of_a_refusal_reach_the_client(mesh: Harness, client: ClientSession) -> None:
    """In HTTP mode the client sees the listed headers of a refusal and no others."""
    async with send(client, "GET", mesh.urls["http"], "/deny") as response:
        assert response.headers["www-authenticate"] == "Bearer"
        assert "x-secret" not in response.headers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/a/../b", "/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/%70ipeline", "/pipeline"),
        ("//a///b", "//a///b"),
        ("/a%2fb%5cc", "/a%2fb%5cc"),
        ("/a/..%2fb", "/a/..%2fb"),
        ("/a;v=1?x=/../..//%2e", "/a;v=1?x=/../..//%2e"),
    ],
)
async def test_paths_are_normalised_as_istio_does_by_default(
    mesh: Harness, client: ClientSession, mode: str, sent: str, seen: str
) -> None:
    """Check and upstream see the same path: dot segments resolved, slashes and escapes as sent."""
    async with send(client, "GET", mesh.urls[mode], sent) as response:
        echo = await response.json()
    assert (_checked_path(mesh, mode), echo["path"]) == (seen, seen)


@pytest.mark.parametrize("mode", MODES)
async def test_small_body_is_checked_whole(mesh: Harness, client: ClientSession, mode: str) -> None:
    """A body below the limit is in the check byte for byte, marked as whole, and goes upstream."""
    body = bytes(range(100))
    async with send(client, "POST", mesh.urls[mode], "/x", data=body) as response:
        echo = await response.json()
    assert _checked_body(mesh, mode) == (body, "false")
    assert base64.b64decode(echo["body"]) == body


@pytest.mark.parametrize("mode", MODES)
async def test_large_body_is_checked_truncated_and_forwarded_whole(
    mesh: Harness, client: ClientSession, mode: str
) -> None:
    """A body above the limit is cut for the check, which is told, while all of it goes upstream."""
    body = b"x" * 3 * LIMIT
    async with send(client, "POST", mesh.urls[mode], "/x", data=body) as response:
        echo = await response.json()
    assert _checked_body(mesh, mode) == (body[:LIMIT], "true")
    assert echo["bodyBytes"] == len(body)


async def test_http_check_is_told_what_a_canonical_request_needs(mesh: Harness, client: ClientSession) -> None:
    """In HTTP mode method overrides, identity headers and content type are in the check, and nothing unlisted."""
    listed = {
        "x-http-method-override": "DELETE",
        "x_http_method_override": "DELETE",
        "kubeflow-userid": "mallory",
        "authorization": "Bearer x",
        "cookie": "a=1",
        "content-type": "application/json",
    }
    headers = {**listed, "x-unlisted": "1"}
    async with send(client, "POST", mesh.urls["http"], "/x", data=b"{}", headers=headers):
        _, checked, _ = mesh.http.checks[-1]
    assert {name: checked[name] for name in listed} == listed
    assert "x-unlisted" not in checked


@pytest.mark.parametrize("mode", MODES)
async def test_websocket_passes_both_ways(mesh: Harness, client: ClientSession, mode: str) -> None:
    """A websocket below /notebook/ is checked once, then carries messages both ways."""
    async with client.ws_connect(mesh.urls[mode] + "/notebook/team-a/nb/api/kernels") as socket:
        assert (await socket.receive_json())["path"] == "/notebook/team-a/nb/api/kernels"
        await socket.send_str("text")
        assert await socket.receive_str() == "text"
        await socket.send_bytes(b"bytes")
        assert await socket.receive_bytes() == b"bytes"
        await socket.close()
        assert (await socket.receive()).type is WSMsgType.CLOSED


@pytest.mark.parametrize("mode", MODES)
async def test_head_is_answered_without_a_body(mesh: Harness, client: ClientSession, mode: str) -> None:
    """HEAD passes through to the upstream and comes back empty."""
    async with send(client, "HEAD", mesh.urls[mode], "/x") as response:
        assert (response.status, await response.read()) == (200, b"")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _config(**options: int) -> EnvoyConfig:
    nowhere = _free_port()
    return EnvoyConfig(upstream_port=nowhere, authz_grpc_port=nowhere, authz_http_port=nowhere, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
async def test_no_authorization_service_means_503(tmp_path: Path, client: ClientSession, mode: str) -> None:
    """When extauthz cannot be reached, Envoy refuses with 503."""
    async with Envoy(_config(), tmp_path) as envoy:
        url = {"grpc": envoy.grpc_url, "http": envoy.http_url}[mode]
        async with send(client, "GET", url, "/x") as response:
            assert response.status == 503


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _pid(envoy: Envoy) -> int:
    return envoy._process.pid


async def test_envoy_is_gone_after_the_context(tmp_path: Path) -> None:
    """Leaving the context ends the process, also when it is left by an error."""
    envoy = Envoy(_config(), tmp_path)
    with pytest.raises(LookupError):
        async with envoy:
            raise LookupError
    assert not _is_running(_pid(envoy))


async def test_envoy_is_gone_when_its_start_is_cancelled(tmp_path: Path) -> None:
    """Cancelling while Envoy is awaited leaves no process behind."""
    started = asyncio.Event()
    pids = []

    class Observed(Envoy):
        async def _is_live(self, client: ClientSession) -> bool:
            pids.append(_pid(self))
            started.set()
            return False

    task = asyncio.create_task(Observed(_config(), tmp_path).__aenter__())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _is_running(pids[0])


async def test_envoy_that_ignores_termination_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not end in time when asked is killed."""
    monkeypatch.setattr("extauthz.demo.envoy.STOP_SECONDS", 0)
    async with Envoy(_config(), tmp_path) as envoy:
        pid = _pid(envoy)
    assert not _is_running(pid)


async def test_envoy_that_dies_at_start_says_why(tmp_path: Path) -> None:
    """If Envoy ends at start, the error carries the end of its log."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(DemoError, match=r"ended with exit code 1(.|\n)*Address already in use"):
            await Envoy(_config(grpc_port=taken.getsockname()[1]), tmp_path).__aenter__()


async def test_two_meshes_cannot_share_a_port(tmp_path: Path) -> None:
    """A second Envoy on the same port fails instead of taking half of the requests."""
    (tmp_path / "second").mkdir()
    async with Envoy(_config(), tmp_path) as first:
        port = int(first.grpc_url.rpartition(":")[2])
        with pytest.raises(DemoError, match="Address already in use"):
            await Envoy(_config(grpc_port=port), tmp_path / "second").__aenter__()


async def test_envoy_that_is_not_ready_in_time_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Envoy that is not ready in time is stopped and reported."""
    monkeypatch.setattr("extauthz.demo.envoy.START_SECONDS", 0)
    with pytest.raises(DemoError, match="did not become ready"):
        await Envoy(_config(), tmp_path).__aenter__()


async def test_watch_reports_an_envoy_that_died(tmp_path: Path) -> None:
    """Someone who watches a running Envoy hears when it ends."""
    async with Envoy(_config(), tmp_path) as envoy:
        os.kill(_pid(envoy), 9)
        with pytest.raises(DemoError, match="ended with exit code -9"):
            await envoy.watch()
