"""Meshes with one rule, so that identity alone is at stake, and a load of tokens for them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from extauthz.demo.mesh import DemoMesh
from tests.integration.load import OpenLoop
from tests.issuer import Issuer, SigningKey, compact

RUNS = "/pipeline/apis/v2beta1/runs?namespace=team-a"
ALICE = "alice@example.com"
POLICY = """
apiVersion: extauthz.dev/v1
kind: Policy
rules:
  - name: runs
    match: {path: /pipeline/apis/v2beta1/runs, methods: [GET]}
    access: [{verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: query:namespace}]
    removeCookies: [another_login]
"""


def mesh_in(folder: Path, **options: Any) -> DemoMesh:
    """Make a mesh with the one rule; options are DemoMesh's."""
    file = folder / "policy.yaml"
    file.write_text(POLICY)
    return DemoMesh(folder / "state", policies=file, **options)


def settings(issuer: str, audience: str, keys: dict[str, Any], **identity: Any) -> dict[str, Any]:
    """Return the settings of a mesh that believes one issuer."""
    configured = {"issuer": issuer, "audiences": [audience], "keys": keys, "claims": {"user": "email"}}
    return {"identity": {"jwt": [configured], **identity}}


def token(issuer: Issuer, key: SigningKey | None = None, **claims: Any) -> str:
    """Sign a token of alice that is valid today."""
    now = int(time.time())
    key = key or issuer.keys[0]
    named = {"email": ALICE, "iat": now, "exp": now + 3600, **claims}
    return compact({"alg": "RS256", "kid": key.id, "typ": "JWT"}, issuer.claims(**named), key)


async def status(client: aiohttp.ClientSession, url: str, token: str) -> int:
    """Return the status of a request with a token."""
    async with client.get(url + RUNS, headers={"authorization": f"Bearer {token}"}) as response:
        await response.read()
        return response.status


class TokenLoad(OpenLoop):
    """Requests in both modes, each with a token of its own; every tenth is a forger's, under the real key's id."""

    def __init__(
        self, client: aiohttp.ClientSession, urls: Mapping[str, str], issuer: Issuer, forger: SigningKey
    ) -> None:
        super().__init__()
        self.outcomes: Counter[tuple[str, int]] = Counter()
        """How often a kind of token (`valid` or `forged`) was answered with a status."""
        self._client = client
        self._urls = urls
        self._issuer = issuer
        self._forger = forger
        self._waiting: Counter[str] = Counter()
        self._first: dict[str, float] = {}

    @property
    def answered(self) -> int:
        """How many answers have come."""
        return self.outcomes.total()

    async def settled(self, key: SigningKey, seconds: float) -> None:
        """Wait until only this key's tokens are under way, and the first answer to one is so long ago."""
        clock = asyncio.get_running_loop().time

        def holds() -> bool:
            others = any(count for name, count in self._waiting.items() if name != key.id)
            return not others and clock() >= self._first.get(key.id, math.inf) + seconds

        await self.until(holds)

    async def ask(self, number: int) -> None:
        """Send one token of the key that signs now."""
        signer, kind = self._issuer.keys[0], "valid" if number % 10 else "forged"
        key = signer if kind == "valid" else SigningKey(signer.id, signer.algorithm, self._forger.private)
        url = self._urls["grpc" if number % 4 < 2 else "http"]
        self._waiting[signer.id] += 1
        self.outcomes[kind, await status(self._client, url, token(self._issuer, key, jti=str(number)))] += 1
        self._waiting[signer.id] -= 1
        if kind == "valid":
            self._first.setdefault(signer.id, asyncio.get_running_loop().time())
