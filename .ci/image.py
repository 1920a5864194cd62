"""Runs the Dockerfile's build steps without Docker, and what they build.

`image.py PYTHON`: each COPY and RUN of the stage `build` is done in a temporary folder that
stands for the image's root, word for word but for its paths. Then the entry point answers
`--help`, and validates the settings that `istio/` ships, in an environment that has nothing else.
Exits 1 where a step fails.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SECONDS = 900


def main(python: str) -> int:
    """Return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "src").mkdir()
        (root / "bin").mkdir()
        (root / "bin" / "python").symlink_to(python)
        for instruction, rest in build_stage((REPOSITORY / "Dockerfile").read_text()):
            print(f"image: {instruction} {rest}", flush=True)
            if instruction == "COPY":
                copy(rest.split(), root / "src")
            elif run(rest.replace("/opt/", f"{root}/opt/"), root):
                return 1
        return tried(root)


def build_stage(text: str) -> Iterator[tuple[str, str]]:
    """Yield the COPY and RUN instructions of the first stage."""
    joined = re.sub(r"\\\n\s*", "", text)
    stage = joined.split("\nFROM ")[1]
    for line in stage.splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction in ("COPY", "RUN"):
            yield instruction, rest


def copy(names: list[str], target: Path) -> None:
    """Copy files, or the content of folders, as COPY does."""
    *sources, destination = names
    for name in sources:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / destination, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / destination).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / destination)


def run(command: str, root: Path) -> int:
    """Run a step in the folder of the sources."""
    environment = {"PATH": f"{root}/bin:{os.environ['PATH']}", "HOME": os.environ.get("HOME", str(root))}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return subprocess.run(["/bin/sh", "-ec", command], cwd=root / "src", env=environment, timeout=SECONDS).returncode


def tried(root: Path) -> int:
    """Run what was built on settings as a pod mounts them, with nothing else in reach."""
    settings = root / "settings.yaml"
    shipped = (REPOSITORY / "istio" / "overlays" / "kubeflow" / "settings.yaml").read_text()
    policies = REPOSITORY / "policies" / "kubeflow"
    settings.write_text(shipped.replace("/etc/extauthz/policies", str(policies)))
    extauthz = root / "opt" / "extauthz" / "bin" / "extauthz"
    for arguments in (["--version"], ["--help"], ["validate", str(settings), str(policies)]):
        command = [str(extauthz), *arguments]
        print(f"image: {shlex.join(['extauthz', *arguments])}", flush=True)
        done = subprocess.run(command, cwd=root, env={"PATH": "/nowhere"}, timeout=SECONDS)
        if done.returncode:
            return 1
    size = sum(file.stat().st_size for file in (root / "opt").rglob("*") if file.is_file() and not file.is_symlink())
    print(f"image: ok, {size / 1e6:.0f} MB beside Python itself")
    return 0


if __name__ == "__main__":
    sys.exit(main(shutil.which(sys.argv[1]) or sys.argv[1]))
