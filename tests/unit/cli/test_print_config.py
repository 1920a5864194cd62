"""`extauthz serve --print-config`: the effective settings, and where each value comes from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from extauthz import settings
from tests.unit.cli.conftest import Run
from tests.unit.test_environment import BASE


def test_each_value_tells_its_source(extauthz: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and line, the environment variable, or that it is a default; what comes out can be loaded again."""
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(BASE, sort_keys=False))
    monkeypatch.setenv("EXTAUTHZ_DEADLINE_SECONDS", "0.5")
    ran = extauthz("serve", "--config", str(file), "--print-config")
    assert (ran.code, ran.err) == (0, "")
    told = {re.sub(r" +#", " #", line.strip()) for line in ran.out.splitlines()}
    assert f'address: "127.0.0.1:1" # {file}:5' in told
    assert f'- issuer: "i" # {file}:9' in told
    assert "deadlineSeconds: 0.5 # environment variable EXTAUTHZ_DEADLINE_SECONDS" in told
    assert 'output: "off" # default' in told
    again = tmp_path / "again.yaml"
    again.write_text(ran.out)
    assert settings.load(again) == settings.load(file, {"EXTAUTHZ_DEADLINE_SECONDS": "0.5"})


def test_passwords_in_addresses_are_masked(extauthz: Run, tmp_path: Path) -> None:
    """A proxy's password is nobody's business."""
    file = tmp_path / "settings.yaml"
    keys = {"url": "https://i/", "proxy": "http://me:s3cret@proxy:3128"}
    jwt = [{"issuer": "i", "audiences": ["a"], "keys": keys}]
    file.write_text(yaml.safe_dump({**BASE, "identity": {"jwt": jwt}}))
    ran = extauthz("serve", "--config", str(file), "--print-config")
    assert "s3cret" not in ran.out
    assert "(masked)@proxy" in ran.out


def test_bad_settings_are_no_settings(extauthz: Run, tmp_path: Path) -> None:
    """Exit code 2, and the error instead of anything else."""
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({**BASE, "deadlineSeconds": "soon"}))
    ran = extauthz("serve", "--config", str(file), "--print-config")
    assert (ran.code, ran.out) == (2, "")
    assert "deadlineSeconds" in ran.err
