"""The security cases that are one request, written to a real Envoy byte for byte, in both modes, on both servers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import pytest

from extauthz.demo.mesh import DemoMesh
from extauthz.request import read
from tests.cases import ALICE, DATA, POLICIES, decided, gateway
from tests.security.asked import WITH_REQUEST, Sent, sent

SECONDS = 30
SERVERS = {"libraries": ("grpcio", "aiohttp"), "native": ("native", "native")}


@dataclass
class Answer:
    """What came back; httptools calls its methods."""

    status: int = 0
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.whole = True


async def write(url: str, asked: Sent, token: str) -> Answer:
    """Write a request as it stands, whatever is in it, and read the answer; status 0 where there was none."""
    headers = {"host": "kubeflow.example", "connection": "close", **asked.headers}
    if asked.named:
        headers.setdefault("authorization", f"Bearer {token}")
    if asked.method in ("POST", "PUT", "PATCH"):
        headers.setdefault("content-length", "0")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port, limit=2**20)
    answer = Answer()
    parser = httptools.HttpResponseParser(answer)
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(f"{asked.method} {asked.target} HTTP/1.1\r\n{head}\r\n".encode())
            while not answer.whole and (content := await reader.read(65536)):
                parser.feed_data(content)
    except ConnectionError:
        return Answer()
    finally:
        writer.close()
    answer.status = parser.get_status_code() if answer.whole else 0
    return answer


def fault(case: dict[str, Any], asked: Sent, answer: Answer) -> str:
    """Return what is wrong with an answer: who passes must have been allowed with just what arrived."""
    if answer.status != 200:
        return f"{answer.status}, and it should pass" if case["expected"]["outcome"] == "allow" else ""
    arrived = json.loads(answer.body)
    request = read(method=arrived["method"], target=arrived["path"], headers=dict(asked.headers))
    if not decided(gateway(ALICE if asked.named else "").decide(request)).allowed:
        return f"{arrived['path']} arrived, which nobody may ask for"
    if case["expected"]["outcome"] == "deny" and arrived["path"] == asked.target:
        return "it passed as it was"
    named = {value for name, value in arrived["headers"] if name.replace("_", "-") == "kubeflow-userid"}
    return "" if named <= {ALICE} else f"{named} arrived as the user"


@pytest.mark.parametrize("servers", SERVERS)
async def test_every_case(tmp_path: Path, servers: str) -> None:
    """Nothing passes that the case refuses, in any spelling that Envoy lets through; and what it allows passes."""
    folder = tmp_path / "policies"
    folder.mkdir()
    for number, file in enumerate(POLICIES):
        (folder / f"{number}-{file.name}").write_bytes(file.read_bytes())
    grpc, http = SERVERS[servers]
    listeners = {"grpc": {"server": grpc}, "http": {"server": http}}
    manifests = DATA / "cases" / "rbac.yaml"
    faults = {}
    async with DemoMesh(
        tmp_path / "state", policies=folder, manifests=manifests, settings={"listeners": listeners}
    ) as mesh:
        token = mesh.signer.sign(ALICE)
        for mode, url in mesh.urls.items():
            for case in WITH_REQUEST:
                asked = sent(case)
                if found := fault(case, asked, await write(url, asked, token)):
                    faults[case["id"], mode] = found
    assert faults == {}
