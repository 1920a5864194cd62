"""What is measured: servers in processes of their own, each on its core, and the request that all get.

The request has 25 headers and a token of 1.2 KB that has been seen before; the policy has as many
rules as the shipped one had, and the last one decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from envoy.service.auth.v3 import external_auth_pb2

from bench.edge_load import REQUEST_ID, Client, Http1Client, Http2Client
from extauthz.demo.issuer import AUDIENCE, Signer
from extauthz.demo.mesh import MANIFESTS

ROOT = Path(__file__).parents[1]
GO_NOOP = ROOT / "bench" / "peers" / "go-noop"
SERVER_CORE, LOAD_CORE = 0, 1
USER = "alice@example.com"
TARGET = "/pipeline/apis/v2beta1/runs?namespace=team-a&page_size=10"
TOKEN_BYTES = 1200
RULES = 150


@dataclass(frozen=True)
class Subject:
    """A server to measure; `yardstick` is the one that its ratios are to."""

    name: str
    protocol: str
    yardstick: str
    command: tuple[str, ...]
    port: int = 0
    """Where it listens; 0 for those that choose, and print what they chose."""
    decides: bool = False
    """Whether it looks at the request, so that it refuses others."""
    note: str = ""
    """What it does more than answer checks."""


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """Return what all threads of the process have used so far."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        with contextlib.suppress(OSError):  # exact where the kernel keeps it
            return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Return the resident memory in MB of a million bytes."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) * 1024 / 1e6 if found else 0.0


@dataclass(frozen=True)
class Requests:
    """The same check in every form."""

    grpc: bytes
    """A CheckRequest."""
    http: bytes
    """HTTP/1.1, as Envoy asks the HTTP edge, and as a client asks Envoy."""

    def client(self, protocol: str, port: int) -> Client:
        """Connect."""
        return Http2Client(port, self.grpc) if protocol == "grpc" else Http1Client(port, self.http)


@dataclass(frozen=True)
class Prepared:
    """The requests, and who signs tokens that the settings trust."""

    requests: Requests
    token: str
    """The requests' token."""
    refused: dict[str, Requests]
    """Requests that are to be refused, by what is wrong with them."""
    signer: Signer


def pin(core: int) -> None:
    """Run this process, and those that it starts, on one core."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def running(command: tuple[str, ...], *, port: int = 0, core: int = SERVER_CORE) -> Iterator[Running]:
    """Run a server until the block ends. Where `port` is 0 it prints its port; it may end with its standard input."""
    words = ["taskset", "-c", str(core), *command]
    environment = {**os.environ, "GOMAXPROCS": "1"}
    output = subprocess.DEVNULL if port else subprocess.PIPE
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=output, stderr=errors, env=environment, cwd=ROOT
        ) as process,
    ):
        try:
            found = port or _printed_port(process)
            _await(process, found)
            yield Running(process.pid, found)
        except ServerEnded:
            errors.seek(0)
            raise SystemExit(f"{command} did not start: {errors.read()[-2000:].decode()}") from None
        finally:
            process.terminate()


class ServerEnded(Exception):
    """A server ended before it served."""


def _printed_port(process: subprocess.Popen[bytes]) -> int:
    line = process.stdout.readline() if process.stdout else b""
    if not line.strip().isdigit():
        raise ServerEnded
    return int(line)


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a port is listened on."""
    while process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise ServerEnded


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def ours(name: str, folder: Path) -> tuple[str, ...]:
    """Return the command of one of our edges."""
    return (sys.executable, "-m", "bench.edge_server", name, str(folder))


def go_noop() -> Path | None:
    """Build the Go no-op; None, and a sentence, where there is no Go."""
    go = shutil.which("go")
    if go is None:
        print("Go is not on PATH: its servers are left out, and so are the ratios to them.", file=sys.stderr)
        return None
    binary = Path(tempfile.gettempdir()) / f"extauthz-go-noop-{os.getuid()}"
    subprocess.run([go, "build", "-o", binary, "."], cwd=GO_NOOP, check=True)
    return binary


def subjects(folder: Path, *, everything: bool = False) -> list[Subject]:
    """Return the servers that can be measured here; the slow ones only when everything is asked for."""
    noop = go_noop()
    found = []
    for protocol, others in (("grpc", ["grpcio"]), ("http", ["aiohttp"])):
        yardstick = f"go-{protocol}"
        if noop:
            found.append(Subject(yardstick, protocol, yardstick, (str(noop), protocol)))
        names = [f"native-{protocol}", *(others if everything else ())]
        found += (Subject(name, protocol, yardstick, ours(name, folder), decides=True) for name in names)
    return found


def prepare(folder: Path, *, rules: int = RULES) -> Prepared:
    """Write the service's settings, and return what to ask it."""
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
        "listeners": {"admin": {"address": "127.0.0.1:0"}},
        "identity": {"jwt": [issuer]},
        "access": {"rbac": {"manifests": [str(MANIFESTS)]}},
        "policy": {"paths": ["policy.yaml"]},
        "audit": {"output": "file", "file": "log/audit.log"},
    }
    (folder / "log").mkdir(exist_ok=True)  # not beside the policy, whose folder is watched
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    (folder / "policy.yaml").write_text(policy(rules))
    groups: list[str] = []
    while len(token := signer.sign(USER, groups)) < TOKEN_BYTES:
        groups.append(f"research-department-{len(groups)}")
    forger = Signer(rsa.generate_private_key(65537, 2048), signer.issuer)
    forger.jwk = signer.jwk  # its tokens name the trusted key
    refused = {
        "a forged token": _requests(forger.sign(USER, groups)),
        "a foreign namespace": _requests(token, TARGET.replace("team-a", "team-b")),
    }
    return Prepared(_requests(token), token, refused, signer)


def _requests(token: str, target: str = TARGET) -> Requests:
    return Requests(check_of(headers(token), target), http_of(headers(token), target))


def paths(rules: int) -> list[str]:
    """Return the paths of a policy with so many rules; the last one is the request's."""
    resources = [*(f"things{number}" for number in range(rules - 1)), "runs"]
    return [f"/pipeline/apis/v2beta1/{resource}" for resource in resources]


def policy(rules: int) -> str:
    """Return a policy with so many rules; the last one decides the request, and all ask for the same right."""
    access = "{verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: query:namespace}"
    written = (
        f"  - name: list-{path.rpartition('/')[2]}\n    match: {{methods: [GET], path: {path}}}\n"
        f"    access: [{access}]\n"
        for path in paths(rules)
    )
    return "apiVersion: extauthz.dev/v1\nkind: Policy\nrules:\n" + "".join(written)


def headers(token: str) -> dict[str, str]:
    """Return the request's headers."""
    return {
        "authorization": f"Bearer {token}",
        "accept": "application/json",
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "x-request-id": REQUEST_ID.decode(),
        "x-ext-authz": "allow",  # what Istio's sample looks for
        **{f"x-header-{number}": f"a value of usual length {number}" for number in range(20)},
    }


def check_of(sent: dict[str, str], target: str = TARGET) -> bytes:
    """Return the request as a CheckRequest."""
    check = external_auth_pb2.CheckRequest()
    http = check.attributes.request.http
    http.method, http.path, http.host, http.scheme = "GET", target, "kubeflow.example", "https"
    http.headers.update(sent)
    return check.SerializeToString()  # type: ignore[no-any-return]  # protobuf has no types


def http_of(sent: dict[str, str], target: str = TARGET) -> bytes:
    """Return the request in HTTP/1.1."""
    lines = [f"GET {target} HTTP/1.1", "host: kubeflow.example", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*lines, "", ""]).encode()
