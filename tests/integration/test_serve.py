"""`extauthz serve` as a process of its own: how it starts, how it ends, and what it says."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from aiohttp import ClientSession, ClientTimeout
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extauthz import settings as settings_module
from extauthz.service import Service
from tests.cases import ALICE, DATA
from tests.issuer import ABSENT, Issuer, KeyServer, bearer, rsa_key

FAR = 4_000_000_000
ANY_PORT = "127.0.0.1:0"
EDGES = ("grpc", "http", "admin")


def write_settings(folder: Path, keys: str, addresses: Mapping[str, str] | None = None) -> Path:
    """Settings over the security cases' policy, with every listener on a port of its own choice."""
    listeners = {edge: {"address": (addresses or {}).get(edge, ANY_PORT)} for edge in EDGES}
    file = folder / "settings.yaml"
    content = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "listeners": listeners,
        "identity": {"jwt": [{"issuer": Issuer().name, "audiences": [Issuer().audience], "keys": {"url": keys}}]},
        "access": {"rbac": {"manifests": [str(DATA / "cases" / "rbac.yaml")]}},
        "policy": {"paths": [str(DATA / "cases" / "policy.yaml")]},
        "shutdown": {"drainSeconds": 0},
    }
    file.write_text(yaml.safe_dump(content))
    return file


async def start(file: Path, *arguments: str) -> Process:
    command = (sys.executable, "-m", "extauthz", "serve", "--config", str(file), *arguments)
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)


async def ended(process: Process) -> tuple[int, str]:
    """Wait for the end; return the exit code and what stands on standard error. Nothing goes to standard output."""
    out, err = await process.communicate()
    assert out == b""
    assert process.returncode is not None
    return process.returncode, err.decode()


class Serving:
    """A running service and its ports."""

    def __init__(self, process: Process, ports: Mapping[str, int]) -> None:
        self.process = process
        self.ports = ports

    async def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to stop and wait until it did."""
        self.process.send_signal(number)
        return await ended(self.process)


@asynccontextmanager
async def serving(file: Path, *arguments: str) -> AsyncIterator[Serving]:
    """Start the service and wait until its log tells the ports."""
    process = await start(file, *arguments)
    assert process.stderr
    try:
        line = ""
        while "serving:" not in line:
            line = (await process.stderr.readline()).decode()
            assert line, "ended before it served"
        found = re.findall(r"(grpc|http|admin) (\d+)", line.partition("serving:")[2])
        yield Serving(process, {edge: int(port) for edge, port in found})
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()  # to the end of its output, so that no pipe is left open


@pytest.fixture
async def keys() -> AsyncIterator[KeyServer]:
    """The issuer's key server."""
    async with KeyServer(Issuer()) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, keys: KeyServer) -> Path:
    """Settings that trust that issuer."""
    return write_settings(tmp_path, f"{keys.url}/jwks")


def token(issuer: Issuer | None = None) -> dict[str, str]:
    return bearer((issuer or Issuer()).token(sub=ALICE, iat=ABSENT, exp=FAR))


def check_request(headers: Mapping[str, str]) -> Any:
    message = external_auth_pb2.CheckRequest()
    http = message.attributes.request.http
    http.method, http.path = "GET", "/app"
    http.headers.update(headers)
    return message


async def ask_grpc(port: int, headers: Mapping[str, str]) -> int:
    """Return the gRPC status code in the answer; 0 allows."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await external_auth_pb2_grpc.AuthorizationStub(channel).Check(check_request(headers))
    return int(answer.status.code)


async def ask_http(port: int, headers: Mapping[str, str]) -> int:
    """Return the HTTP status; 200 allows."""
    async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}/app", headers=headers) as response:
        return response.status


async def test_it_serves_on_the_ports_that_its_log_tells(settings: Path) -> None:
    """Port 0 takes free ones; both edges decide, health says SERVING, and standard output stays empty."""
    async with serving(settings) as service:
        assert set(service.ports) == set(EDGES)
        assert await ask_grpc(service.ports["grpc"], token()) == 0
        assert await ask_grpc(service.ports["grpc"], {}) == 16
        assert await ask_http(service.ports["http"], token()) == 200
        assert await ask_http(service.ports["http"], {}) == 401
        async with ClientSession() as client:
            for path, answer in (("healthz", {"alive": True}), ("readyz", {"ready": True})):
                async with client.get(f"http://127.0.0.1:{service.ports['admin']}/{path}") as response:
                    assert answer.items() <= (await response.json()).items()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['grpc']}") as channel:
            health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            while (await health.read()).status != health_pb2.HealthCheckResponse.SERVING:
                pass  # it follows readiness by a moment
            health.cancel()
        assert (await service.stop())[0] == 0


async def test_life_004_a_service_that_hangs_is_not_alive(settings: Path) -> None:
    """Liveness is answered by the loop that answers checks: while that stands still, kubelet hears nothing."""
    async with serving(settings) as service, ClientSession() as client:
        url = f"http://127.0.0.1:{service.ports['admin']}/healthz"
        service.process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await client.get(url, timeout=ClientTimeout(total=1))
        service.process.send_signal(signal.SIGCONT)
        async with client.get(url) as response:
            assert response.status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_when_told(settings: Path, number: int) -> None:
    """SIGTERM and Ctrl-C are an orderly end: exit code 0, no traceback."""
    async with serving(settings) as service:
        code, log = await service.stop(number)
    assert (code, "Traceback" in log) == (0, False)
    assert "stopping" in log


@pytest.mark.parametrize(("edge", "ask", "allowed"), [("grpc", ask_grpc, 0), ("http", ask_http, 200)])
async def test_a_check_under_way_is_answered_before_the_end(
    settings: Path, keys: KeyServer, edge: str, ask: Any, allowed: int
) -> None:
    """A check that waits for the issuer's new key when SIGTERM comes gets its answer; then the process ends."""
    async with serving(settings) as service:
        assert await ask(service.ports[edge], token()) == allowed
        keys.issuer.keys.insert(0, rsa_key("key-2"))
        keys.fault = "slow"
        asked = asyncio.create_task(ask(service.ports[edge], token(keys.issuer)))
        await keys.arrived.wait()  # only this check can have caused the fetch
        service.process.send_signal(signal.SIGTERM)
        await stopping(service)
        keys.release.set()
        assert await asked == allowed
        assert (await ended(service.process))[0] == 0


async def stopping(service: Serving) -> None:
    """Return when the service has begun to stop."""
    assert service.process.stderr
    while b"stopping" not in await service.process.stderr.readline():
        pass


@pytest.mark.parametrize("edge", EDGES)
async def test_a_taken_port_is_named(tmp_path: Path, edge: str) -> None:
    """Exit code 2 and one sentence with the address, whichever listener it is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        file = write_settings(tmp_path, "http://127.0.0.1:1/jwks", {edge: address})
        code, log = await ended(await start(file, "--log-level", "error"))
    assert code == 2
    (error,) = (line for line in log.splitlines() if line.startswith("error:"))
    assert f"cannot listen on {address}" in error
    assert "is the port taken?" in error
    assert "Traceback" not in log


async def test_an_impossible_address_is_named(tmp_path: Path) -> None:
    """A host that is not ours cannot be listened on."""
    file = write_settings(tmp_path, "http://127.0.0.1:1/jwks", {"http": "192.0.2.1:9001"})
    code, log = await ended(await start(file, "--log-level", "error"))
    assert (code, "cannot listen on 192.0.2.1:9001" in log) == (2, True)


def _replace(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: Settings", "kind: Setings", r"settings\.yaml:\d+:\d+: kind: .*'Settings'"),
        ("audiences:", "audience:", r"settings\.yaml:\d+:\d+: unknown key 'audience' .*did you mean 'audiences'"),
        ("policy.yaml", "missing.yaml", r"missing\.yaml"),
        ("rbac.yaml", "missing.yaml", r"missing\.yaml"),
    ],
)
async def test_broken_settings_are_named(settings: Path, old: str, new: str, said: str) -> None:
    """Exit code 2, with file and line, before anything is listened on."""
    _replace(settings, old, new)
    code, log = await ended(await start(settings))
    assert code == 2
    assert log.startswith("error: ")
    assert re.search(said, log)
    assert "Traceback" not in log


async def test_an_unknown_log_level_is_a_usage_error(settings: Path) -> None:
    """The allowed ones are named."""
    code, log = await ended(await start(settings, "--log-level", "loud"))
    assert code == 2
    assert "warning" in log


@pytest.mark.parametrize("edge", ["grpc", "http"])
async def test_an_edge_that_is_left_out_is_off(tmp_path: Path, edge: str) -> None:
    """The service serves with the other one alone."""
    file = write_settings(tmp_path, "http://127.0.0.1:1/jwks")
    _replace(file, f"  {edge}:\n    address: {ANY_PORT}\n", f"  {edge}: null\n")
    service = Service(settings_module.load(file))
    await service.start()
    ports = {"grpc": service.grpc_port, "http": service.http_port}
    await service.stop()
    assert ports.pop(edge) is None
    assert all(ports.values())
