"""The whole of it: settings, policy and a real process that asks the API."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from extauthz import settings
from extauthz.errors import ConfigurationError
from extauthz.loading import load_lookup, load_policy
from tests.cases import DATA
from tests.kfp import KfpServer

POLICY = """
apiVersion: extauthz.dev/v1
kind: Policy
rules:
- name: run
  match: {path: '/runs/{id}'}
  access:
  - {verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: 'lookup:run:path:id'}
"""


def settings_of(folder: Path, lookups: dict[str, Any] | None) -> settings.Settings:
    """Write and load a settings file beside the policy."""
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "keys.json").write_text('{"keys": []}')
    document = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "identity": {"jwt": [{"issuer": "i", "audiences": ["a"], "keys": {"file": "keys.json"}}]},
        "access": {"rbac": {"manifests": [str(DATA / "cases" / "rbac.yaml")]}},
        "policy": {"paths": ["policy.yaml"]},
        **({"lookups": lookups} if lookups is not None else {}),
    }
    (folder / "settings.yaml").write_text(json.dumps(document))
    return settings.load(folder / "settings.yaml")


async def check(folder: Path, target: str) -> tuple[int, dict[str, Any]]:
    """Run `extauthz check` as a process of its own."""
    arguments = (
        "check",
        "-c",
        str(folder / "settings.yaml"),
        "--user",
        "alice@example.com",
        "-o",
        "json",
        "GET",
        target,
    )
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "extauthz", *arguments, stdout=pipe)
    output, _ = await process.communicate()
    return process.returncode or 0, json.loads(output)


async def test_a_process_asks_the_api_with_its_own_token(tmp_path: Path) -> None:
    """Own, foreign and unknown runs; relative paths count from the settings file."""
    async with KfpServer.running() as kfp:
        kfp.token_file(tmp_path)
        settings_of(tmp_path, {"kfp": {"url": kfp.url, "tokenFile": "token"}})
        code, own = await check(tmp_path, f"/runs/{kfp.run('team-a')}")
        assert (code, own["outcome"]) == (0, "allow")
        assert {"attribute": "namespace", "source": "lookup:run:path:id", "value": "team-a"} in own["values"]
        code, foreign = await check(tmp_path, f"/runs/{kfp.run('team-b')}")
        assert (code, foreign["status"]) == (1, 403)
        code, unknown = await check(tmp_path, "/runs/none")
        assert (code, unknown["message"]) == (1, foreign["message"])
        kfp.faults.status = 500
        assert (await check(tmp_path, "/runs/none"))[1]["status"] == 503


def test_rules_with_lookups_need_somebody_to_ask(tmp_path: Path) -> None:
    """The policy does not load, and says what the settings lack."""
    loaded = settings_of(tmp_path, None)
    assert load_lookup(loaded) is None
    with pytest.raises(ConfigurationError, match=r"lookups\.kfp"):
        load_policy(loaded)
    loaded = settings_of(tmp_path, {"kfp": {"url": "http://ml-pipeline.kubeflow:8888"}})
    assert len(load_policy(loaded).rules) == 1


@pytest.mark.parametrize(
    "url",
    [
        "ml-pipeline:8888",
        "ftp://x",
        "http://user@x",
        "http://x/apis",
        "http://x?y",
        "http://x#y",
        "http://",
        "http://x:y",
    ],
)
def test_an_address_is_a_scheme_a_host_and_a_port(tmp_path: Path, url: str) -> None:
    """Nothing else can be put before the paths that we send our token to."""
    with pytest.raises(ConfigurationError, match="url"):
        settings_of(tmp_path, {"kfp": {"url": url}})
