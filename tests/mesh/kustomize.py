"""A real kustomize, version 5: kubectl's, or the program, found on PATH or built by the Go that is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ISTIO = Path(__file__).parents[2] / "istio"
OVERLAYS = sorted(path.name for path in (ISTIO / "overlays").iterdir())

_PACKAGE = "sigs.k8s.io/kustomize/kustomize/v5"
_VERSION = "v5.8.1"
_MISSING = f"kustomize 5 is missing: install kubectl 1.27 or newer, or Go, which builds {_PACKAGE}@{_VERSION}"
_SECONDS = 900

Object = dict[str, Any]


@cache
def build(folder: Path) -> tuple[Object, ...]:
    """Return the objects of a kustomization in the order in which they are applied. Do not change them."""
    return tuple(yaml.safe_load_all(render(folder)))


def render(folder: Path) -> str:
    """Return the same as YAML text."""
    done = _run(*_command(), str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _command() -> tuple[str, ...]:
    """Return the command that takes a folder; without one the test is skipped."""
    if (kubectl := shutil.which("kubectl")) and _major(_kubectl_version(kubectl)) == 5:
        return kubectl, "kustomize"
    if (found := shutil.which("kustomize")) and _major(_run(found, "version").stdout) == 5:
        return found, "build"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "extauthz" / f"kustomize-{_VERSION}"
    if not (cache / "kustomize").exists() and (go := shutil.which("go")):
        _run(go, "install", f"{_PACKAGE}@{_VERSION}", GOBIN=str(cache))
    if not (cache / "kustomize").exists():
        pytest.skip(_MISSING)
    return str(cache / "kustomize"), "build"


def _kubectl_version(kubectl: str) -> str:
    told = _run(kubectl, "version", "--client", "--output", "json").stdout
    return str(json.loads(told or "{}").get("kustomizeVersion", ""))


def _major(version: str) -> int:
    found = re.search(r"v(\d+)\.", version)
    return int(found[1]) if found else 0


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment)


if __name__ == "__main__":  # so that no test waits for the build
    print(*_command())
