"""A newcomer's session: every command of docs/tuning.md, on a real Envoy."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from extauthz.demo.mesh import DemoMesh
from extauthz.demo.run import _write_tokens
from tests.cases import REPOSITORY

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGE = (REPOSITORY / "docs" / "tuning.md").read_text()
SECONDS = 120


def steps() -> Iterator[tuple[str, list[str]]]:
    """Yield every command of the page with the lines that it shows; a here-document belongs to its command."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            found = re.match(r".*?<<'END'\n.*?^END\n", step, re.DOTALL | re.MULTILINE)
            command = found[0] if found else step.partition("\n")[0]
            yield command, step.removeprefix(command).strip().splitlines()


def shows(expected: list[str], output: str) -> bool:
    """Whether an output has what the page shows; `…` stands for anything."""
    parts = [part.strip() for line in expected for part in line.split("…")]
    pattern = ".*".join(re.escape(part) for part in parts if part)
    return re.search(pattern, output, re.DOTALL) is not None


async def run(command: str, folder: Path) -> str:
    """Run one command; it must succeed. Return what it said."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", command),
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command}\n{output.decode()}"
    return output.decode()


async def test_a_newcomers_session(tmp_path: Path) -> None:
    """A rule is tried in shadow, seen, compared, enforced, and then refuses: each step shows what the page shows."""
    for name in ("policies", "extauthz"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    await run("cp -r policies/kubeflow my-policy", tmp_path)
    (tmp_path / "demo").mkdir()
    seen = 0
    async with DemoMesh(tmp_path / "demo", policies=tmp_path / "my-policy") as mesh:
        _write_tokens(mesh)
        loaded = mesh.service.gateway.policy
        for command, expected in steps():
            if "curl" in command:
                await _reloaded(mesh, loaded)
            tokens = "" if command.startswith("cat") else ". demo/tokens.sh\n"
            output = await run(tokens + command.replace("http://127.0.0.1:8080", mesh.urls["grpc"]), tmp_path)
            assert shows(expected, output), f"{command}\n{output}"
            seen += 1
    assert seen >= 10


async def _reloaded(mesh: DemoMesh, loaded: object) -> None:
    """Wait until the mesh serves what was saved first."""
    async with asyncio.timeout(SECONDS):
        while mesh.service.gateway.policy is loaded:  # noqa: ASYNC110  # a reload tells nobody
            await asyncio.sleep(0.05)
