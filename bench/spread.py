"""How the checks of several Envoys spread over several processes: `python -m bench.spread`.

Three ways to share a port: `reuseport`, where the kernel gives each process connections of its own;
`shared`, where all accept from one listening socket; and `handed`, the service's own `workers`, where a
supervisor hands connections over in turn. Each Envoy has one thread, so over gRPC it has one connection.
A share is that of a process' CPU while all Envoys are loaded alike. Connections are new, so the age at
which workers give them back plays no part.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop
import yaml

from bench.openloop import OpenLoop
from bench.subjects import ROOT, Requests, Running, prepare, running
from extauthz import settings
from extauthz.demo.envoy import Envoy, EnvoyConfig
from extauthz.service import Service

PROCESSES = 3
ENVOYS = 4
PER_SECOND = 100.0
SECONDS = 3.0
WAYS = ("reuseport", "shared", "handed")


class OnSocket:
    """Accepts from a socket that others may share."""

    port = 0
    max_age: float | None = None

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening

    async def start(self, serve: Callable[[], asyncio.BaseProtocol]) -> None:
        """Listen."""
        await asyncio.get_running_loop().create_server(serve, sock=self._listening)

    async def stop(self) -> None:
        """The process ends anyway."""


async def serve(folder: Path, descriptor: int) -> None:
    """Be one of several processes on a socket."""
    with socket.socket(fileno=descriptor) as listening:
        service = Service(settings.load(folder / "settings.yaml"), listening={"grpc": OnSocket(listening)})
        await service.start()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def listening_on(port: int) -> socket.socket:
    """Return a socket that shares its port."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen(1024)
    return made


@contextlib.asynccontextmanager
async def processes(way: str, folder: Path) -> AsyncIterator[tuple[list[int], int]]:
    """Run the processes; yield their ids and their port."""
    if way == "handed":
        command = (sys.executable, "-m", "extauthz", "serve", "--config", str(folder / "workers.yaml"))
        started = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, cwd=ROOT)
        try:
            line = ""
            while "serving: grpc" not in line and started.stderr:
                line = (await started.stderr.readline()).decode()
            children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()  # noqa: ASYNC240
            yield [int(child) for child in children], int(line.partition("grpc ")[2].partition(",")[0])
        finally:
            started.kill()
            await started.wait()
        return
    sockets = [listening_on(0)]
    port = sockets[0].getsockname()[1]
    sockets += (listening_on(port) for _ in range(PROCESSES - 1) if way == "reuseport")
    all_ = [await _one(folder, sockets[number % len(sockets)]) for number in range(PROCESSES)]
    for listening in sockets:
        listening.close()
    try:
        yield [each.pid for each in all_], port
    finally:
        for each in all_:
            each.kill()
            await each.wait()


async def _one(folder: Path, listening: socket.socket) -> asyncio.subprocess.Process:
    number = listening.fileno()
    command = (sys.executable, "-m", "bench.spread", "serve", str(folder), str(number))
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, pass_fds=(number,), cwd=ROOT)
    if started.stdout:
        await started.stdout.readline()
    return started


@dataclass(frozen=True)
class Spread:
    """What was found for a way to share."""

    shares: list[float]
    """Of each process, the largest first."""
    cpu_us: float
    """CPU per check of all processes together."""
    envoys_us: float
    """CPU per request of all Envoys together."""


async def measure(way: str, folder: Path, requests: Requests, upstream: int) -> Spread:
    """Measure one way."""
    async with contextlib.AsyncExitStack() as stack:
        pids, port = await stack.enter_async_context(processes(way, folder))
        config = EnvoyConfig(upstream_port=upstream, authz_grpc_port=port, authz_http_port=port)
        envoys = []
        for number in range(ENVOYS):
            (place := folder / f"{way}-{number}").mkdir()
            envoys.append(await stack.enter_async_context(Envoy(config, place)))
        measured = [Running(pid, 0) for pid in (*pids, *(envoy._process.pid for envoy in envoys))]
        before = [each.cpu_seconds() for each in measured]
        await asyncio.gather(*(asyncio.to_thread(_put, envoy, requests) for envoy in envoys))
        used = [each.cpu_seconds() - start for each, start in zip(measured, before, strict=True)]
        ours, theirs = sum(used[: len(pids)]), sum(used[len(pids) :])
        shares = sorted((each / ours for each in used[: len(pids)]), reverse=True)
        requests_ = ENVOYS * PER_SECOND * SECONDS
        return Spread(shares, ours / requests_ * 1e6, theirs / requests_ * 1e6)


def _put(envoy: Envoy, requests: Requests) -> None:
    load = OpenLoop(int(envoy.grpc_url.rpartition(":")[2]), requests.http)
    outcome = load.run(PER_SECOND, SECONDS)
    load.close()
    if outcome.wrong:
        raise SystemExit(f"not all were allowed: {outcome.statuses}")


async def compare(folder: Path) -> None:
    """Measure every way, and print what was found."""
    requests = prepare(folder).requests
    content = yaml.safe_load((folder / "settings.yaml").read_text())
    address = {"address": "127.0.0.1:0", "server": "native"}
    content["listeners"] = {"grpc": address, "http": None, "admin": {"address": "127.0.0.1:0"}}
    (folder / "settings.yaml").write_text(yaml.safe_dump(content))
    (folder / "workers.yaml").write_text(yaml.safe_dump({**content, "workers": PROCESSES}))
    with running((sys.executable, "-m", "bench.upstream")) as upstream:
        for way in WAYS:
            found = await measure(way, folder, requests, upstream.port)
            shares = " ".join(f"{share:4.0%}" for share in found.shares)
            print(f"{way:10} {shares}  CPU µs per check: ours {found.cpu_us:.0f}, Envoy's {found.envoys_us:.0f}")


def main() -> None:
    """Measure, or serve."""
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(Path(sys.argv[2]), int(sys.argv[3])))
        return
    with tempfile.TemporaryDirectory() as name:
        uvloop.run(compare(Path(name)))


if __name__ == "__main__":
    main()
