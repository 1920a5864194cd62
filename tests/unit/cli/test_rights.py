"""`extauthz who-can` and `extauthz what-can`, from manifests and from a cluster."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from extauthz.cli import app
from extauthz.demo.mesh import MANIFESTS
from tests.apiserver import Double
from tests.apiserver.fixtures import double
from tests.apiserver.manifests import binding, role, rule, user

__all__ = ["double"]


def run(*arguments: str) -> tuple[int, str]:
    """Run a command over the demo's manifests."""
    done = CliRunner().invoke(app, [*arguments, "--manifests", str(MANIFESTS)])
    return done.exit_code, done.output


def test_who_can_tells_subject_role_and_binding() -> None:
    """The owner by his admin role, and the group that is never asked."""
    code, output = run("who-can", "list", "runs.pipelines.kubeflow.org", "-n", "team-a")
    assert code == 0
    assert output.splitlines()[0].split() == ["KIND", "SUBJECT", "ROLE", "BINDING", "NAMESPACE"]
    (alice,) = (line.split() for line in output.splitlines() if "alice@example.com" in line)
    assert alice[:3] == ["User", "alice@example.com", "clusterrole/kubeflow-admin"]
    assert alice[4] == "team-a"
    assert "bob@example.com" not in output
    assert "system:masters" in output


def test_what_can_tells_rules_and_bindings() -> None:
    """In his own namespace a user may much, in another's nothing that it alone gives."""
    code, output = run("what-can", "alice@example.com", "-n", "team-a", "-o", "json")
    rows = json.loads(output)
    assert code == 0
    assert any("runs.pipelines.kubeflow.org" in row["resources"] and row["namespace"] == "team-a" for row in rows)
    assert not any(row["namespace"] for row in json.loads(run("what-can", "alice@example.com", "-o", "json")[1]))


def test_groups_are_added_as_kubernetes_does() -> None:
    """A ServiceAccount is in the groups of all of them and of its namespace; others are named."""
    code, output = run("what-can", "system:serviceaccount:team-a:default-editor", "-n", "team-a", "-o", "json")
    assert code == 0
    assert "kubeflow-edit" in output
    assert run("what-can", "somebody", "-n", "team-a", "--group", "system:masters")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("who-can", "fly", "kites", "-n", "team-a"), 1),
        (("who-can", "get", "/metrics"), 1),
        (("who-can", "get", "pods", "-n", "anywhere"), 0),
        (("what-can", "u"), 0),
        (("who-can", "get", ".x"), 2),
        (("what-can", "nobody@example.com", "-n", "nowhere"), 1),
        (("who-can", "get", "pods", "--context", "prod"), 2),
    ],
)
def test_exit_codes(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    """0 when somebody has a right, 1 when nobody has, 2 when nobody could be asked."""
    manifests = tmp_path / "rbac.json"
    manifests.write_text(
        json.dumps(role("editor", rule(["get"], ["pods"]))) + json.dumps(binding("b", "editor", user("u")))
    )
    done = CliRunner().invoke(app, [*arguments, "--manifests", str(manifests)])
    assert done.exit_code == code


async def test_a_cluster_is_read(double: Double) -> None:
    """Without manifests roles and bindings are listed from the API server, page by page."""
    double.write(role("editor", rule(["get"], ["pods"])))
    for number in range(3):
        double.write(binding(f"grant-{number}", "editor", user(f"u{number}"), namespace="ns"))
    command = [sys.executable, "-m", "extauthz", "who-can", "get", "pods", "-n", "ns", "-o", "json"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "--kubeconfig", str(double.kubeconfig())], capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["subject"] for row in rows} == {"system:masters", "u0", "u1", "u2"}
    assert {row["binding"] for row in rows[1:]} == {f"rolebinding/grant-{number}" for number in range(3)}


async def test_a_cluster_that_does_not_answer(tmp_path: Path, double: Double) -> None:
    """It is an error with a sentence, not nobody."""
    kubeconfig = double.kubeconfig()
    await double.stop()
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "extauthz", "what-can", "u", "--kubeconfig", str(kubeconfig)],
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert b"error:" in done.stderr
