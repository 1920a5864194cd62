"""Finds or builds the other servers: `python -m bench.build_peers`.

A server that somebody has built already is taken first: the file that a variable names (`OPA_ENVOY`,
`KUBE_RBAC_PROXY`, `ISTIO_SAMPLE`), else its usual name on PATH. Everything else the ordinary Go client builds.
What cannot be had is said and left out; `build/peers/built.json` lists the rest with versions.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.subjects import ROOT

PEERS = ROOT / "bench" / "peers"
BUILT = ROOT / "build" / "peers"
LIST = BUILT / "built.json"
OURS = {"go-noop": "go-noop", "opa-engine": "opa"}
"""Servers whose source is here, by their names; each has a folder with a module."""
SECONDS = 1200.0
MODULES = ("google.golang.org/grpc", "github.com/open-policy-agent/opa", "k8s.io/apiserver")
"""What a server rests on, and is worth telling apart by."""


@dataclass(frozen=True)
class Other:
    """A server whose source is elsewhere."""

    package: str
    """What `go install` is asked for."""
    executable: str = ""
    """Its usual name on PATH; empty where that would be ambiguous."""
    version: str = ""
    """The argument that makes it tell its version."""


OTHERS = {
    "opa-envoy": Other(
        "github.com/open-policy-agent/opa-envoy-plugin/cmd/opa-envoy-plugin@latest", "opa-envoy-plugin", "version"
    ),
    "istio-sample": Other("istio.io/istio/samples/extauthz/cmd/extauthz@v0.0.0-20260827124520-eed52ebb66ad"),
    "kube-rbac-proxy": Other(
        "github.com/brancz/kube-rbac-proxy/cmd/kube-rbac-proxy@latest", "kube-rbac-proxy", "--version"
    ),
}
"""Servers whose source is elsewhere, by their names."""


def main() -> None:
    """Find or build everything that can be had."""
    BUILT.mkdir(parents=True, exist_ok=True)
    go = shutil.which("go")
    if go is None:
        print("Go is not on PATH: only servers that are built already can be measured.", file=sys.stderr)
    had = [name for name, folder in OURS.items() if go and _build(go, name, folder)]
    had += [name for name, other in OTHERS.items() if _found(name, other) or (go and _install(go, name, other))]
    told = {name: version(BUILT / name, go, OTHERS[name].version if name in OTHERS else "") for name in had}
    LIST.write_text(json.dumps(told, indent=1) + "\n")
    for name, version_ in told.items():
        print(f"{name}: {version_}")


def variable(name: str) -> str:
    """Return the environment variable that names a server's file."""
    return name.upper().replace("-", "_")


def existing(name: str, other: Other) -> Path | None:
    """Return the file of a server that is built already. Ends the program where a variable names none."""
    named = os.environ.get(variable(name))
    file = shutil.which(named or other.executable) if named or other.executable else None
    if named and file is None:
        raise SystemExit(f"{variable(name)}={named} is no file that can be run")
    return Path(file).resolve() if file else None


def _found(name: str, other: Other) -> bool:
    file = existing(name, other)
    if file:
        print(f"{name}: {file}")
        (BUILT / name).unlink(missing_ok=True)
        (BUILT / name).symlink_to(file)
    return file is not None


def _build(go: str, name: str, folder: str) -> bool:
    return _run([go, "build", "-o", str(BUILT / name), "."], name, PEERS / folder)


def _install(go: str, name: str, other: Other) -> bool:
    folder = BUILT / f"{name}-bin"
    if not _run([go, "install", other.package], name, ROOT, {"GOBIN": str(folder)}):
        return False
    next(folder.iterdir()).replace(BUILT / name)
    return True


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


def version(file: Path, go: str | None, ask: str) -> str:
    """Return what a binary tells of itself: by Go's build information, and where it is asked with an argument."""
    told = [_own_words(file, ask)] if ask else []
    if go:
        listed = subprocess.run([go, "version", "-m", str(file.resolve())], capture_output=True, text=True, check=True)
        told += build_information(listed.stdout)
    return ", ".join(filter(None, told)) or "no version told"


def build_information(listed: str) -> list[str]:
    """Return the versions in what `go version -m` lists: of Go, the module, its revision and what it rests on."""
    found = re.findall(r"^\t(mod|dep)\t(\S+)\t(v\S+)", listed, re.MULTILINE)
    modules = [
        f"{path.removeprefix('github.com/')} {version_}"
        for kind, path, version_ in found
        if kind == "mod" or path in MODULES
    ]
    settings = dict(re.findall(r"^\tbuild\t(\S+?)=(.*)$", listed, re.MULTILINE))
    revision = settings.get("vcs.revision", "")[:12]
    changed = " with changes" if settings.get("vcs.modified") == "true" else ""
    return [listed.split()[1], *modules, *([f"revision {revision}{changed}"] if revision else [])]


def _own_words(file: Path, ask: str) -> str:
    """Return the first version that a server prints, unless it is a placeholder."""
    done = subprocess.run([file, ask], capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"\bv?\d+\.\d+\.\d+\S*", done.stdout)
    return f"version {found[0]}" if found and not found[0].startswith("v0.0.0") else ""


if __name__ == "__main__":
    main()
