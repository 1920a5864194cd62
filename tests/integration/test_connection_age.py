"""Envoy ends a stream that grows too old, by the settings that docs/limits.md gives."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, WSMsgType

from extauthz.demo.envoy import EnvoyConfig, bootstrap_json
from tests.cases import REPOSITORY
from tests.integration.envoy import harness

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATIENCE = 30.0


def documented() -> dict[str, Any]:
    """Return what the EnvoyFilter of the docs merges into the connection manager."""
    text = (REPOSITORY / "docs" / "limits.md").read_text()
    examples = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    (filters,) = (example for example in examples if example.get("kind") == "EnvoyFilter")
    (patch,) = filters["spec"]["configPatches"]
    merged: dict[str, Any] = patch["patch"]["value"]["typed_config"]
    return merged


def patched(**soon: Any) -> Callable[[EnvoyConfig], str]:
    """Return a configuration with the documented patch, but with times that a test can wait for."""

    def build(config: EnvoyConfig) -> str:
        made = json.loads(bootstrap_json(config))
        for listener in made["staticResources"]["listeners"]:
            manager = listener["filterChains"][0]["filters"][0]["typedConfig"]
            manager |= {name: soon.get(name, value) for name, value in documented().items()}
        return json.dumps(made)

    return build


@pytest.mark.parametrize(
    ("soon", "talks"),
    [
        ({"common_http_protocol_options": {"max_stream_duration": "0.5s"}}, True),
        ({"stream_idle_timeout": "0.5s"}, False),
    ],
)
async def test_a_socket_does_not_stay_open(tmp_path: Path, client: ClientSession, soon: Any, talks: bool) -> None:
    """Not past its age, however busy it is, and not when it has gone quiet."""
    async with harness(tmp_path, build=patched(**soon)) as running:
        async with client.ws_connect(f"{running.urls['grpc']}/notebook/a/nb/x") as socket, asyncio.timeout(PATIENCE):
            while (await socket.receive()).type is WSMsgType.TEXT:
                if talks:
                    await socket.send_str("still here")
        assert socket.closed
