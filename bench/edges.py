"""CPU per check of each edge with everything on, beside Go servers that do nothing.

    python -m bench.edges [--seconds 3] [--only native] [--json FILE]

Server and load have one core each. A check is a request with 25 headers and a token of
1.2 KB that has been seen before; the gateway, its policy and its caches are the service's
own, with reviews kept as they are before a cluster. "Saturated" is 4 connections with 64
calls each for gRPC, and 64 connections for HTTP/1.1; "light" is 4 connections with one
request each. CPU is that of the server process, user and system, all threads. Go's servers
are built with the Go on PATH; without it they are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from envoy.service.auth.v3 import external_auth_pb2
from rich.console import Console
from rich.table import Table

from bench.edge_load import Client, Http1Client, Http2Client, Load, run
from extauthz.demo.issuer import AUDIENCE, Signer
from extauthz.demo.mesh import MANIFESTS

ROOT = Path(__file__).parents[1]
GO_SOURCE = ROOT / "bench" / "peers" / "go-noop"
SERVER_CORE, LOAD_CORE = 0, 1
TARGET = "/pipeline/apis/v2beta1/runs?namespace=team-a&page_size=10"
TOKEN_BYTES = 1200
RULES = 150
LIGHT = Load(connections=4, in_flight=1)
SATURATED = {"grpc": Load(connections=4, in_flight=64), "http": Load(connections=64, in_flight=1)}
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True)
class Subject:
    """A server to measure; `yardstick` is the one that its ratios are to."""

    name: str
    protocol: str
    yardstick: str


SUBJECTS = (
    Subject("go-grpc", "grpc", "go-grpc"),
    Subject("grpcio", "grpc", "go-grpc"),
    Subject("native-grpc", "grpc", "go-grpc"),
    Subject("go-http", "http", "go-http"),
    Subject("aiohttp", "http", "go-http"),
    Subject("native-http", "http", "go-http"),
)


@dataclass(frozen=True)
class Requests:
    """The same check in both protocols."""

    grpc: bytes
    http: bytes

    def client(self, protocol: str, port: int) -> Client:
        """Connect."""
        return Http2Client(port, self.grpc) if protocol == "grpc" else Http1Client(port, self.http)


def prepare(folder: Path) -> Requests:
    """Write the service's settings, and return the requests."""
    signer = Signer(rsa.generate_private_key(65537, 2048), "https://issuer.example")
    (folder / "jwks.json").write_text(json.dumps({"keys": [signer.jwk]}))
    issuer = {
        "issuer": signer.issuer,
        "audiences": [AUDIENCE],
        "keys": {"file": "jwks.json"},
        "claims": {"user": "email", "groups": "groups"},
    }
    settings = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "identity": {"jwt": [issuer]},
        "access": {"rbac": {"manifests": [str(MANIFESTS)]}},
        "policy": {"paths": ["policy.yaml"]},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    (folder / "policy.yaml").write_text(_policy())
    groups: list[str] = []
    while len(token := signer.sign("alice@example.com", groups)) < TOKEN_BYTES:
        groups.append(f"research-department-{len(groups)}")
    return _requests(token)


def _policy() -> str:
    """Return a policy of the shipped one's size; the last rule decides the request."""
    resources = [*(f"things{number}" for number in range(RULES - 1)), "runs"]
    access = "{verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: query:namespace}"
    rules = (
        f"  - name: list-{resource}\n    match: {{methods: [GET], path: /pipeline/apis/v2beta1/{resource}}}\n"
        f"    access: [{access}]\n"
        for resource in resources
    )
    return "apiVersion: extauthz.dev/v1\nkind: Policy\nrules:\n" + "".join(rules)


def _requests(token: str) -> Requests:
    headers = {
        "authorization": f"Bearer {token}",
        "accept": "application/json",
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "x-request-id": "6f3c1f0e-9f9c-4e0f-8a2a-1b1f0c6d7e8f",
        **{f"x-header-{number}": f"a value of usual length {number}" for number in range(21)},
    }
    check = external_auth_pb2.CheckRequest()
    http = check.attributes.request.http
    http.method, http.path, http.host, http.scheme = "GET", TARGET, "kubeflow.example", "https"
    http.headers.update(headers)
    lines = [f"GET {TARGET} HTTP/1.1", "host: kubeflow.example", *(f"{name}: {headers[name]}" for name in headers)]
    return Requests(check.SerializeToString(), "\r\n".join([*lines, "", ""]).encode())


@contextlib.contextmanager
def server(command: list[str]) -> Iterator[tuple[int, int]]:
    """Run a server on its core; yield its pid and port."""
    pinned = ["taskset", "-c", str(SERVER_CORE), *command]
    environment = {**os.environ, "GOMAXPROCS": "1"}
    with subprocess.Popen(
        pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True
    ) as process:
        try:
            yield process.pid, int(process.stdout.readline()) if process.stdout else 0
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    """Return what all threads of a process have used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    with contextlib.suppress(OSError):  # exact where the kernel keeps it
        threads = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    return ticks


def measure(subject: Subject, command: list[str], requests: Requests, seconds: float) -> dict[str, float]:
    """Return CPU microseconds per check and checks per second, saturated and lightly loaded."""
    found = {}
    with server(command) as (pid, port):
        for name, load in (("saturated", SATURATED[subject.protocol]), ("light", LIGHT)):
            clients = [requests.client(subject.protocol, port) for _ in range(load.connections)]
            run(clients, load.in_flight, WARM_UP_SECONDS)
            used, start = cpu_seconds(pid), time.perf_counter()
            answered = run(clients, load.in_flight, seconds)
            elapsed = time.perf_counter() - start
            found[f"{name}_us"] = (cpu_seconds(pid) - used) / answered * 1e6
            found[f"{name}_per_second"] = answered / elapsed
            for client in clients:
                client.socket.close()
    return found


def commands(folder: Path) -> Callable[[str], list[str] | None]:
    """Return how each subject is started; None where it cannot be."""
    binary = _build(folder)

    def command(name: str) -> list[str] | None:
        if not name.startswith("go-"):
            return [sys.executable, "-m", "bench.edge_server", name, str(folder)]
        return [str(binary), name.removeprefix("go-")] if binary else None

    return command


def _build(folder: Path) -> Path | None:
    go = shutil.which("go")
    if go is None:
        print("Go is not on PATH: its servers are left out, and so are the ratios", file=sys.stderr)
        return None
    binary = folder / "go-noop"
    subprocess.run([go, "build", "-o", binary, "."], cwd=GO_SOURCE, check=True)
    return binary


def show(results: dict[str, dict[str, float]]) -> None:
    """Print the figures, with ratios to the yardstick of the same protocol."""
    table = Table("server", "saturated µs", "ratio", "checks/s", "light µs", "ratio")
    for subject in SUBJECTS:
        if found := results.get(subject.name):
            ratios = _ratios(found, results.get(subject.yardstick))
            rate = f"{found['saturated_per_second']:,.0f}"
            table.add_row(
                subject.name, f"{found['saturated_us']:.1f}", ratios[0], rate, f"{found['light_us']:.1f}", ratios[1]
            )
    Console().print(table)


def _ratios(found: dict[str, float], yardstick: dict[str, float] | None) -> list[str]:
    keys = ("saturated_us", "light_us")
    return [f"{found[key] / yardstick[key]:.2f}" if yardstick else "" for key in keys]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", default="", help="a part of the names of the servers to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        requests, command = prepare(Path(name)), commands(Path(name))
        for subject in SUBJECTS:
            if arguments.only in subject.name and (started := command(subject.name)):
                results[subject.name] = measure(subject, started, requests, arguments.seconds)
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
