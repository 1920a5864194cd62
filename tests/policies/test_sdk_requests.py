"""What the real `kfp` SDK sends, as it was recorded: its owner works untouched, a stranger is told what is missing."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.cases import DATA
from tests.policies.desk import ALICE, BOB, decide

RECORDED: list[dict[str, Any]] = json.loads((DATA / "kfp-sdk-requests.json").read_text())
IDS = {
    "experiment_id": "experiment.team-a",
    "pipeline_id": "pipeline.team-a",
    "pipeline_version_id": "pipeline_version.team-a",
    "run_id": "run.team-a",
    "recurring_run_id": "job.team-a",
    "namespace": "team-a",
    "service_account": "default-editor",
}
UNSCOPED = {"/pipeline/apis/v2beta1/healthz", "/pipeline/apis/v2beta1/pipelines"}
"""What is the same for everybody who is logged in: health, and the shared pipelines."""


def filled(text: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: IDS.get(found[1], found[0]), text)


def body(pointers: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for pointer in pointers:
        *parents, last = pointer.strip("/").split("/")
        place = made
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = IDS.get(last, {} if last in ("pipeline_spec", "parameters") else "x")
    return made


def asked(recorded: dict[str, Any]) -> tuple[str, str, dict[str, Any] | None]:
    query = urlencode({name: filled(value) for name, value in recorded["query"].items()})
    content = body(recorded["body"]) if recorded["content_type"] == "application/json" and recorded["body"] else None
    return recorded["method"], f"{filled(recorded['path'])}?{query}", content


@pytest.mark.parametrize("recorded", RECORDED, ids=[f"{item['method']} {item['path']}" for item in RECORDED])
def test_the_owner_s_work_passes_and_a_stranger_s_does_not(recorded: dict[str, Any]) -> None:
    """Each request by itself, with the ids of objects in team-a."""
    method, target, content = asked(recorded)
    owner = decide(ALICE, method, target, content)
    assert owner.allowed, owner.message
    stranger = decide(BOB, method, target, content)
    named = "namespace" in recorded["query"]
    assert stranger.allowed is (recorded["path"] in UNSCOPED and not named)
    assert stranger.allowed or 'User "bob@example.com" cannot' in stranger.message
