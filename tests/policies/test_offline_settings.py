"""The settings that the README tries the shipped policies with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cases import REPOSITORY

RUNS = "/pipeline/apis/v2beta1/runs?namespace=team-a"


@pytest.mark.parametrize(
    ("user", "code", "start"), [("alice", 0, "ALLOW 200 allowed"), ("bob", 1, "DENY 403 forbidden")]
)
def test_they_decide_without_a_cluster(user: str, code: int, start: str) -> None:
    """Nothing but this repository is needed."""
    command = (sys.executable, "-m", "extauthz", "check", "-c", "policies/offline-settings.yaml")
    ran = subprocess.run(
        (*command, "--user", f"{user}@example.com", "GET", RUNS),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (code, start), ran.stderr
