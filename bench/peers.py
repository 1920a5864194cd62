"""Other servers beside ours: the same requests, load and cores. `make bench-peers` finds or builds them first.

- `go-grpc`, `go-http`: answer every check with an allow; what a native server costs at the least.
- `opa-envoy`: OPA-Envoy with `peers/opa-envoy/`: token verified, path parsed, rights from data.
- `opa-engine`: the same policy in OPA's engine behind a bare gRPC server, without the rest of OPA-Envoy.
- `kube-rbac-proxy`: before an upstream, and with the test API server behind it (`bench/rbac_proxy.py`).
- `istio-*`: Istio's sample server, which looks for one header and logs each request. It listens on all
  addresses, so it runs only where there is nothing but loopback: in a network namespace.
"""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench import edges, rbac_proxy, through_envoy
from bench.build_peers import BUILT, LIST, PEERS
from bench.row import Row, Sections
from bench.subjects import LOAD_CORE, TARGET, USER, Prepared, Subject, free_port, ours, pin, prepare
from extauthz.demo.issuer import AUDIENCE

POLICY = PEERS / "opa-envoy" / "policy.rego"
NO_ENVOY = {"istio-http"}
"""Envoy's HTTP mode keeps back the header that this one looks for."""


def versions() -> dict[str, str]:
    """Return the servers that are there, with their versions."""
    return dict(json.loads(LIST.read_text())) if LIST.exists() else {}


@contextmanager
def sections(*, seconds: float, rounds: int) -> Iterator[Sections]:
    """Yield what is measured, by name."""
    with tempfile.TemporaryDirectory() as name:
        found = _Peers(Path(name), seconds, rounds)
        pin(LOAD_CORE)
        yield {"edges": found.edges, "envoy": found.through_envoy}


@dataclass
class _Peers:
    folder: Path
    seconds: float
    rounds: int

    def __post_init__(self) -> None:
        self.prepared = prepare(self.folder)
        (self.folder / "data.json").write_text(json.dumps(_data(self.prepared)))
        self.subjects = _subjects(self.folder)

    def edges(self) -> list[Row]:
        return asyncio.run(self._edges())

    async def _edges(self) -> list[Row]:
        async with AsyncExitStack() as stack:
            if rbac_proxy.NAME not in versions():
                return self._measured(self.subjects)
            proxy, server = await stack.enter_async_context(
                rbac_proxy.before_upstream(self.folder, self.prepared.token)
            )
            # The load blocks its thread; the API server in this one answers what is not cached.
            rows = await asyncio.to_thread(self._measured, [*self.subjects, proxy])
            for row in rows:
                if row.server == proxy.name:
                    row.more["reviews"] = rbac_proxy.reviews(server)
            return rows

    def _measured(self, found: list[Subject]) -> list[Row]:
        return edges.run(found, self.prepared, seconds=self.seconds, rounds=self.rounds)

    def through_envoy(self) -> list[Row]:
        found = [each for each in self.subjects if each.name not in NO_ENVOY]
        requests, seconds = self.prepared.requests, 2 * self.seconds
        return through_envoy.run(found, requests, self.folder, seconds=seconds, rounds=self.rounds)


def _data(prepared: Prepared) -> dict[str, object]:
    """Return what the policy for OPA reads: keys, rules by path and method, rights by user."""
    right = {"verb": "list", "group": "pipelines.kubeflow.org", "resource": "runs"}
    return {
        "bench": {
            "jwks": json.dumps({"keys": [prepared.signer.jwk]}),
            "issuer": prepared.signer.issuer,
            "audience": AUDIENCE,
            "rules": {urlsplit(TARGET).path.removeprefix("/"): {"GET": right}},
            "rights": {USER: [{**right, "namespace": "team-a"}]},
        }
    }


def _subjects(folder: Path) -> list[Subject]:
    built = versions()
    found = [
        Subject(f"native-{each}", each, f"go-{each}", ours(f"native-{each}", folder), decides=True)
        for each in ("grpc", "http")
    ]
    if "go-noop" in built:
        noop = str(BUILT / "go-noop")
        found += (Subject(f"go-{each}", each, f"go-{each}", (noop, each)) for each in ("grpc", "http"))
    if "opa-engine" in built:
        command = (str(BUILT / "opa-engine"), str(POLICY), str(folder / "data.json"))
        found.append(Subject("opa-engine", "grpc", "go-grpc", command, decides=True))
    if "opa-envoy" in built:
        found.append(_opa_envoy(folder / "data.json"))
    if "istio-sample" in built and _alone():
        found += (_istio(each) for each in ("grpc", "http"))
    return found


def _opa_envoy(data: Path) -> Subject:
    port = free_port()
    command = (
        *(str(BUILT / "opa-envoy"), "run", "--server", "--skip-version-check"),
        *("--log-level", "error", "--optimize-store-for-read-speed"),
        *("--addr", "127.0.0.1:0", "--set", f"plugins.envoy_ext_authz_grpc.addr=127.0.0.1:{port}"),
        *("--config-file", str(PEERS / "opa-envoy" / "config.yaml"), str(POLICY), str(data)),
    )
    return Subject("opa-envoy", "grpc", "go-grpc", command, port, decides=True)


def _istio(protocol: str) -> Subject:
    ports = {"grpc": free_port(), "http": free_port()}
    command = (str(BUILT / "istio-sample"), "-grpc", str(ports["grpc"]), "-http", str(ports["http"]))
    return Subject(f"istio-{protocol}", protocol, f"go-{protocol}", command, ports[protocol])


def _alone() -> bool:
    """Tell whether there is no network but loopback."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]
