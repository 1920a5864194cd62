"""The command line as a whole: help, version, and errors as one message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from extauthz import __version__
from tests.unit.cli.conftest import Run

COMMANDS = [
    *("serve", "check", "validate", "diff", "doctor", "test", "fmt", "schema", "review"),
    *("who-can", "what-can", "demo", "token"),
]


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_shows_an_example(extauthz: Run, command: str | None) -> None:
    """Everybody finds out how to begin from --help alone."""
    ran = extauthz(*filter(None, [command]), "--help")
    assert ran.code == 0
    assert "Example" in ran.out
    assert f"extauthz {command or 'demo'}" in ran.out


def test_help_names_every_command(extauthz: Run) -> None:
    """And each with what it does."""
    listed = extauthz("--help").out.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in listed if line.strip()] == COMMANDS


def test_no_command_shows_the_help_and_fails(extauthz: Run) -> None:
    """A script that forgot the command must notice."""
    ran = extauthz()
    assert ran.code == 2
    assert "Commands:" in ran.out + ran.err


def test_the_version(extauthz: Run) -> None:
    """It is printed alone, for scripts."""
    ran = extauthz("--version")
    assert (ran.code, ran.out) == (0, f"{__version__}\n")


def test_the_module_is_the_command() -> None:
    """`python -m extauthz` works where no script is installed."""
    done = subprocess.run([sys.executable, "-m", "extauthz", "--version"], capture_output=True, check=True)
    assert done.stdout.decode().strip() == __version__


@pytest.mark.parametrize("arguments", [["nonsense"], ["check"], ["check", "--nonsense"], ["serve"], ["token"]])
def test_a_usage_error_is_exit_code_2(extauthz: Run, arguments: list[str]) -> None:
    """With the usage on standard error, and nothing on standard output."""
    ran = extauthz(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage" in ran.err


def test_an_expected_error_is_one_message(extauthz: Run, tmp_path: Path) -> None:
    """No traceback: the file and what is wrong with it, on standard error."""
    ran = extauthz("check", "-c", tmp_path / "missing.yaml", "GET", "/")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: {tmp_path / 'missing.yaml'}: cannot be read: No such file or directory\n"


def test_a_reader_that_goes_away_is_no_crash(config: Path, tmp_path: Path) -> None:
    """`| head -1` ends the command without a traceback."""
    batch = tmp_path / "batch.jsonl"
    batch.write_text('{"url": "/app"}\n' * 2000)
    command = [sys.executable, "-m", "extauthz", "check", "-c", str(config), "--batch", str(batch)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 1


def test_demo_without_its_packages_says_what_to_install(extauthz: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo is an extra; the service does not need it."""
    monkeypatch.setitem(sys.modules, "extauthz.demo.run", None)
    ran = extauthz("demo", "--verify")
    assert ran.code == 2
    assert "pip install 'extauthz[demo]'" in ran.err


def test_token_without_a_demo_says_what_to_do(extauthz: Run, tmp_path: Path) -> None:
    """There is no key to sign with before the first demo."""
    ran = extauthz("token", "alice@example.com", "--state", tmp_path)
    assert ran.code == 2
    assert "start `extauthz demo`" in ran.err


def test_schema_prints_json_schema(extauthz: Run) -> None:
    """One for each kind of file."""
    assert "PolicyModel" in extauthz("schema").answer["title"]
    assert "Settings" in extauthz("schema", "settings").answer["title"]
