"""Builds the other servers with the ordinary Go client: `python -m bench.build_peers`.

What cannot be had or built is said and left out; `bench/peers/built.json` lists the rest with versions.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.subjects import ROOT

PEERS = ROOT / "bench" / "peers"
BUILT = ROOT / "build" / "peers"
LIST = BUILT / "built.json"
OURS = {"go-noop": "go-noop", "opa-engine": "opa"}
"""Servers whose source is here, by their names; each has a folder with a module."""
INSTALLED = {
    "opa-envoy": "github.com/open-policy-agent/opa-envoy-plugin/cmd/opa-envoy-plugin@latest",
    "istio-sample": "istio.io/istio/samples/extauthz/cmd/extauthz@v0.0.0-20260827124520-eed52ebb66ad",
    "kube-rbac-proxy": "github.com/brancz/kube-rbac-proxy/cmd/kube-rbac-proxy@latest",
}
"""Servers that are installed, by their names."""
SECONDS = 1200.0


def main() -> None:
    """Build everything that can be built."""
    go = shutil.which("go")
    if go is None:
        print("Go is not on PATH: there are no peers to measure.")
        return
    BUILT.mkdir(parents=True, exist_ok=True)
    built = {name: _build(go, name, folder) for name, folder in OURS.items()}
    built |= {name: _install(go, name, package) for name, package in INSTALLED.items()}
    LIST.write_text(json.dumps({name: version for name, version in built.items() if version}, indent=1) + "\n")


def _build(go: str, name: str, folder: str) -> str:
    command = [go, "build", "-o", str(BUILT / name), "."]
    return _version(go, name, _run(command, name, PEERS / folder))


def _install(go: str, name: str, package: str) -> str:
    folder = BUILT / f"{name}-bin"
    if not _run([go, "install", package], name, ROOT, {"GOBIN": str(folder)}):
        return ""
    (BUILT / name).unlink(missing_ok=True)
    next(folder.iterdir()).rename(BUILT / name)
    return _version(go, name, True)


def _run(command: list[str], name: str, folder: Path, more: dict[str, str] | None = None) -> bool:
    print(f"{name}: {' '.join(command[1:])}", flush=True)
    try:
        environment = {**os.environ, **(more or {})}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{name}: left out, not built within {SECONDS:.0f} s", file=sys.stderr)
        return False
    if done.returncode:
        last = " ".join(done.stderr.split())[-300:]
        print(f"{name}: left out: {last}", file=sys.stderr)
    return not done.returncode


def _version(go: str, name: str, built: bool) -> str:
    """Return the versions that a binary tells of itself: of its module, of Go, of gRPC and of OPA."""
    if not built:
        return ""
    told = subprocess.run([go, "version", "-m", str(BUILT / name)], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"(?:mod|dep)\s+(\S+)\s+(\S+)", told)
    kept = [f"{path.rpartition('/')[2]} {version}" for path, version in found if path.endswith(("/grpc", "/opa"))]
    main_ = [f"{path} {version}" for path, version in found[:1] if version.startswith("v")]
    return ", ".join([told.split()[1], *main_, *kept])


if __name__ == "__main__":
    main()
