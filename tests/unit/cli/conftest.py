"""The command line, run in this process as `python -m extauthz` runs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz.cli import main
from tests.cases import DATA, REPOSITORY
from tests.issuer import Issuer

SHIPPED = REPOSITORY / "policies" / "kubeflow"
POLICIES = [
    DATA / "cases" / "policy.yaml",
    *(SHIPPED / f"{name}.yaml" for name in ("dataplanes", "pipelines-ui", "pipelines-v2beta1")),
]
"""What these tests ask for; each command loads it anew."""


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def answers(self) -> list[Any]:
        """The JSON lines on standard output."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def extauthz(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with these arguments."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["extauthz", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    """The one issuer that the settings trust."""
    return Issuer()


@pytest.fixture
def config(tmp_path: Path, issuer: Issuer) -> Path:
    """Settings over the security cases' policy and rights, with the keys in a file."""
    (tmp_path / "jwks.json").write_bytes(issuer.jwks())
    settings = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "identity": {
            "jwt": [
                {
                    "issuer": issuer.name,
                    "audiences": [issuer.audience],
                    "keys": {"file": "jwks.json"},
                    "claims": {"groups": "groups"},
                }
            ]
        },
        "access": {"rbac": {"manifests": [str(DATA / "cases" / "rbac.yaml")]}},
        "lookups": {"kfp": {"url": "http://127.0.0.1:9", "tokenFile": "token"}},  # nobody listens there
        "policy": {"paths": [str(file) for file in POLICIES]},
        "body": {"maxRequestBytes": 256},
    }
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file
