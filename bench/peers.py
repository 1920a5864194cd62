"""Other servers beside ours: the same requests, load and cores. `make bench-peers` builds them first.

- `go-grpc`, `go-http`: answer every check with an allow; what a native server costs at the least.
- `opa-envoy`: OPA-Envoy with `peers/opa/policy.rego`: token verified, path parsed, rights from data.
- `opa-engine`: the same policy in OPA's engine behind a bare gRPC server, without the rest of OPA-Envoy.
- `istio-*`: Istio's sample server, which looks for one header and logs each request. It listens on all
  addresses, so it runs only where there is nothing but loopback: in a network namespace.
"""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from bench import edges, through_envoy
from bench.build_peers import BUILT, LIST, PEERS
from bench.row import Row
from bench.subjects import LOAD_CORE, TARGET, USER, Prepared, Subject, ours, pin, prepare
from extauthz.demo.issuer import AUDIENCE


def run(console: Console, *, seconds: float, rounds: int) -> tuple[list[Row], dict[str, object]]:
    """Return the rows, and the versions of what was measured."""
    built = json.loads(LIST.read_text()) if LIST.exists() else {}
    for name, version in built.items():
        console.print(f"{name}: {version}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = prepare(folder)
        (folder / "data.json").write_text(json.dumps(_data(prepared)))
        found = _subjects(folder, built)
        pin(LOAD_CORE)
        rows = edges.run(found, prepared.requests, seconds=seconds, rounds=rounds)
        found = [each for each in found if each.name != "istio-http"]  # Envoy's HTTP mode keeps its header back
        rows += through_envoy.run(found, prepared.requests, folder, seconds=2 * seconds, rounds=rounds)
    return rows, {"versions": built}


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


def _subjects(folder: Path, built: dict[str, str]) -> list[Subject]:
    data, policy = str(folder / "data.json"), str(PEERS / "opa" / "policy.rego")
    found = [Subject(f"native-{each}", each, f"go-{each}", ours(f"native-{each}", folder)) for each in ("grpc", "http")]
    if "go-noop" in built:
        noop = str(BUILT / "go-noop")
        found += (Subject(f"go-{each}", each, f"go-{each}", (noop, each)) for each in ("grpc", "http"))
    if "opa-engine" in built:
        found.append(Subject("opa-engine", "grpc", "go-grpc", (str(BUILT / "opa-engine"), policy, data)))
    if "opa-envoy" in built:
        found.append(_opa_envoy(policy, data))
    if "istio-sample" in built and _alone():
        found += (_istio(each) for each in ("grpc", "http"))
    return found


def _opa_envoy(policy: str, data: str) -> Subject:
    port = _free_port()
    plugin = "plugins.envoy_ext_authz_grpc"
    options = (f"{plugin}.addr=127.0.0.1:{port}", f"{plugin}.path=envoy/authz/result")
    sets = tuple(word for option in options for word in ("--set", option))
    command = (str(BUILT / "opa-envoy"), "run", "--server", "--addr", "127.0.0.1:0", "--log-level", "error", *sets)
    return Subject("opa-envoy", "grpc", "go-grpc", (*command, policy, data), port)


def _istio(protocol: str) -> Subject:
    ports = {"grpc": _free_port(), "http": _free_port()}
    command = (str(BUILT / "istio-sample"), "-grpc", str(ports["grpc"]), "-http", str(ports["http"]))
    return Subject(f"istio-{protocol}", protocol, f"go-{protocol}", command, ports[protocol])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _alone() -> bool:
    """Tell whether there is no network but loopback."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]
