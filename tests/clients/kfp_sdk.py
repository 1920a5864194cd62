"""Drives the `kfp` SDK in its own environment, and tells which requests it makes.

`python -m tests.clients.kfp_sdk` writes them to tests/data/kfp-sdk-requests.json, straight
from a stub KFP without a gateway between.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from tests.clients.environments import python
from tests.kubeflow.server import Kubeflow
from tests.kubeflow.wire import JSON, Call

RECORDED = Path(__file__).parents[1] / "data" / "kfp-sdk-requests.json"
SECONDS = 60.0
_SCRIPT = Path(__file__).with_name("kfp_work.py")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PARTS = re.compile(rb'(?<!file)name="([^"]*)"')
_OPAQUE = ("pipeline_spec", "parameters")  # the user's own content


@dataclass(frozen=True, slots=True)
class Refusal:
    """The exception a step of the work ended with."""

    type: str
    status: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work went: each step's refusal or None, and the ids of what it made."""

    steps: Mapping[str, Refusal | None]
    ids: Mapping[str, str]

    @property
    def refused(self) -> dict[str, Refusal]:
        """The steps that did not succeed."""
        return {name: refusal for name, refusal in self.steps.items() if refusal}


async def work(host: str, **task: Any) -> Outcome:
    """Do the work of `kfp_work.py` against a host; `task` is what it reads besides. Skips without the SDK."""
    interpreter = python("kfp")
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            interpreter, _SCRIPT, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={"HOME": folder, "NO_PROXY": "*"}
        )
        try:
            content = json.dumps({"host": host, "folder": folder, "namespace": "team-a", **task}).encode()
            printed, said = await asyncio.wait_for(process.communicate(content), SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, said.decode()
    told = json.loads(printed)
    steps = {name: Refusal(**refusal) if refusal else None for name, refusal in told["steps"].items()}
    return Outcome(steps, told["ids"])


def recorded(calls: Iterable[Call], ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what a policy's author wants to know of each call, without what differs from run to run."""
    names = {value: f"{{{name}}}" for name, value in ids.items()}

    def named(text: str) -> str:
        return _UUID.sub(lambda match: names.get(match[0], "{other}"), text)

    return [
        {
            "method": call.method,
            "path": named(call.path),
            "query": {name: named(value) for name, value in parse_qsl(call.query, keep_blank_values=True)},
            "content_type": call.headers.get("content-type", "").partition(";")[0],
            "body": sorted(_body(call)),
        }
        for call in calls
    ]


def _body(call: Call) -> Iterator[str]:
    """Name what a body holds: JSON pointers, or the parts of a form."""
    if call.headers.get("content-type") == JSON and call.body:
        yield from _pointers(json.loads(call.body), "")
    else:
        yield from (part.decode() for part in _PARTS.findall(call.body))


def _pointers(value: Any, pointer: str) -> Iterator[str]:
    if isinstance(value, dict) and pointer.rpartition("/")[2] not in _OPAQUE:
        for key, below in value.items():
            yield from _pointers(below, f"{pointer}/{key}")
    else:
        yield pointer


async def _main() -> None:
    async with Kubeflow() as kubeflow:
        outcome = await work(f"http://127.0.0.1:{kubeflow.port}/pipeline", token="none")
        assert not outcome.refused
        lines = ",\n".join(json.dumps(request) for request in recorded(kubeflow.calls, outcome.ids))
        RECORDED.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    asyncio.run(_main())
