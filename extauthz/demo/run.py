"""`extauthz demo`: start the mesh and say what to try, or try it all and say whether it held."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from extauthz.demo import HOST, DemoError, scenario
from extauthz.demo.issuer import state_folder
from extauthz.demo.mesh import DemoMesh
from extauthz.demo.scenario import CASES, Result
from extauthz.errors import ExtauthzError

INTERRUPTED = 130
_HIGHEST_PORT = 65534
_COLUMNS = ("", "must be", "gRPC", "HTTP", "request", "")
_PLAIN = "{:<6}{:<9}{:<6}{:<6}{}  {}"


async def run(
    *, port: int = 8080, verify: bool = False, state: Path | None = None, policies: Path | None = None
) -> int:
    """Run the demo until it is interrupted, or with `verify` until every case was tried.

    gRPC mode listens on `port`, HTTP mode on the next one; 0 takes free ones. `state` is
    the folder for key, settings and logs; verifying uses a throwaway one by default.
    `policies` are served instead of the shipped ones.
    Returns the exit code: 0 all is well, 1 a case did not hold, 2 the mesh could not run,
    130 verifying was interrupted.
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        async with _interruptible():
            with _folder(state, throwaway=verify) as folder:
                _refuse_taken(port)
                console.print("Starting the local mesh ...", style="dim")
                async with DemoMesh(folder, port=port, policies=policies) as mesh:
                    return await (verify_all(console, mesh) if verify else show(console, mesh))
    except ExtauthzError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), markup=False)
        return 2
    console.print("Stopped; nothing is left running.")
    return INTERRUPTED if verify else 0


@asynccontextmanager
async def _interruptible() -> AsyncIterator[None]:
    """Let the first SIGINT or SIGTERM end the work inside in an orderly way, and swallow that end."""
    loop, task, received = asyncio.get_running_loop(), asyncio.current_task(), []

    def interrupt(number: int) -> None:
        received.append(number)
        if task and len(received) == 1:  # a second one must not break off the cleaning up
            task.cancel()

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received or not task:
            raise
        task.uncancel()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@contextmanager
def _folder(state: Path | None, *, throwaway: bool) -> Iterator[Path]:
    if state is None and throwaway:
        with tempfile.TemporaryDirectory(prefix="extauthz-demo-") as temporary:
            yield Path(temporary)
        return
    folder = state or state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"The folder {folder} cannot be used ({error.strerror}): choose one with --state.") from error
    yield folder


def _refuse_taken(port: int) -> None:
    """Raise DemoError unless both ports can be listened on. Port 0 always can."""
    if not 0 <= port <= _HIGHEST_PORT:
        raise DemoError(f"--port must be between 0 and {_HIGHEST_PORT}: HTTP mode takes the port after it.")
    for candidate in (port, port + 1) if port else ():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError as error:
                why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
                raise DemoError(f"Port {candidate} {why}: choose another with --port.") from error


async def show(console: Console, mesh: DemoMesh) -> int:
    """Say what to try, then serve. Raises DemoError when Envoy ends by itself."""
    variables = _write_tokens(mesh)
    console.print("Ready: a real Envoy asks extauthz about every request.", style="bold green")
    for label, value in {
        "gRPC mode": mesh.urls["grpc"],
        "HTTP mode": mesh.urls["http"],
        "console": f"{mesh.admin_url}/console/ (sign in with $ADMIN, see below)",
        "settings": mesh.settings_file,
        "policy": f"{mesh.policies} (edit it; it is reloaded)",
        "rights": mesh.manifests,
        "audit log": mesh.audit_file,
    }.items():
        console.print(f"  {label:<10} {value}", markup=False)
    console.print("\nPaste into another terminal; HTTP mode must answer alike.", style="bold")
    console.print(f". {shlex.quote(str(variables))}  # $ALICE, $BOB, ...: tokens good for 12 hours\n", markup=False)
    for case in CASES:
        console.print(f"# {case.name}: {case.status}", style="dim", markup=False)
        console.print(scenario.curl(case, mesh.urls["grpc"]), markup=False)
    console.print("\nCtrl-C stops everything.", style="bold")
    await mesh.envoy.watch()


def _write_tokens(mesh: DemoMesh) -> Path:
    """Write the users' tokens as shell variables to a file that only its owner may read."""
    file = mesh.folder / "tokens.sh"
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.writelines(f"{name.upper()}={token}\n" for name, token in scenario.tokens(mesh.signer).items())
    return file


async def verify_all(console: Console, mesh: DemoMesh) -> int:
    """Try every case in both modes and print how it went. Returns 0 only if all hold."""
    async with aiohttp.ClientSession() as client:
        results = await scenario.verify(client, mesh)
    _report(console, results)
    return 0 if all(result.holds for result in results) else 1


def _report(console: Console, results: Sequence[Result]) -> None:
    """Print one row per case: a table on a terminal, plain columns elsewhere."""
    rows = [_row([result for result in results if result.case is case]) for case in CASES]
    if console.is_terminal:
        table = Table(*_COLUMNS, box=None)
        for row in rows:
            table.add_row(*row, style=None if row[0] == "ok" else "bold red")
        console.print(table, soft_wrap=False)
    else:
        for row in (_COLUMNS, *rows):
            console.print(_PLAIN.format(*row).rstrip(), markup=False)
    held = sum(result.holds for result in results)
    console.print(f"{held} of {len(results)} hold.", style="bold green" if held == len(results) else "bold red")


def _row(results: Sequence[Result]) -> tuple[str, ...]:
    case = results[0].case
    problems = "; ".join(f"{result.mode}: {problem}" for result in results for problem in result.problems)
    statuses = (str(result.status) for result in results)
    return ("FAIL" if problems else "ok", str(case.status), *statuses, case.name, problems)
