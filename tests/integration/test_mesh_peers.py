"""Callers of the mesh through a real Envoy under mTLS: their principal counts, their own words do not."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from extauthz.demo.envoy import Envoy, EnvoyConfig, bootstrap_json
from extauthz.demo.mesh import DemoMesh
from tests.authority import Authority

POLICY = """
apiVersion: extauthz.dev/v1
kind: Policy
rules:
  - {name: who, match: {path: /who}, allow: authenticated}
"""
HOP = "spiffe://cluster.local/ns/istio-system/sa/gateway"
EDITOR = "spiffe://cluster.local/ns/team-a/sa/default-editor"
SIDECAR = "spiffe://cluster.local/ns/team-a/sa/notebook"
STRANGER = "spiffe://cluster.local/ns/team-b/sa/stranger"
IDENTITY = {"peer": {"principals": ["spiffe://cluster.local/ns/team-a/sa/*"]}, "header": {"principals": [HOP]}}
BOB = "bob@example.com"
FORGED = (
    f"By={HOP};Hash={'0' * 64};URI={EDITOR}",
    f'By={HOP};Hash={"0" * 64};Subject="',
    f'URI={EDITOR}", ",By={HOP};Hash={"0" * 64};URI={EDITOR}',
)


def sidecar(folder: Path, *, tls: bool) -> Any:
    """Return a builder of Envoy's configuration as Istio's sidecars have it: client certificates, and XFCC appended."""

    def build(config: EnvoyConfig) -> str:
        bootstrap = json.loads(bootstrap_json(config))
        for listener in bootstrap["staticResources"]["listeners"]:
            (chain,) = listener["filterChains"]
            chain["filters"][0]["typedConfig"].update(
                forwardClientCertDetails="APPEND_FORWARD",
                setCurrentClientCertDetails={"subject": True, "uri": True, "dns": True},
            )
            if tls:
                chain["transportSocket"] = _transport(folder)
        return json.dumps(bootstrap)

    return build


def _transport(folder: Path) -> dict[str, Any]:
    certificate, key, ca = ({"filename": str(folder / name)} for name in ("tls.crt", "tls.key", "ca.crt"))
    own = {"certificateChain": certificate, "privateKey": key}
    context = {"tlsCertificates": [own], "validationContext": {"trustedCa": ca}}
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return {"name": "envoy.transport_sockets.tls", "typedConfig": {"@type": kind, "commonTlsContext": context}}


class World:
    """An authority for callers, and the mesh they call."""

    def __init__(self, authority: Authority, envoy: Envoy, folder: Path, *, tls: bool) -> None:
        self._authority = authority
        self._folder = folder
        self._envoy = envoy
        self._tls = tls

    async def who(self, mode: str, principal: str, **headers: str) -> str:
        """Return whom the upstream is told, or nothing for a refusal. Without a principal there is no certificate."""
        address = {"grpc": self._envoy.grpc_url, "http": self._envoy.http_url}[mode]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with aiohttp.ClientSession() as client:
            url = address.replace("http:", "https:" if self._tls else "http:") + "/who"
            trust = self._trust(principal) if self._tls else True
            async with client.get(url, headers=named, ssl=trust) as response:
                if response.status != 200:
                    assert response.status == 401
                    return ""
                return str(dict((await response.json())["headers"])["kubeflow-userid"])

    def _trust(self, principal: str) -> ssl.SSLContext:
        if principal:
            self._authority.issue("caller", principal=principal).write(self._folder)
        context = self._authority.client_context(self._folder if principal else None)
        context.check_hostname = False
        return context


@asynccontextmanager
async def opened(folder: Path, *, tls: bool = True, server: str = "aiohttp") -> AsyncIterator[World]:
    (folder / "policy.yaml").write_text(POLICY)
    authority = Authority()
    listeners = {"http": {"peersFrom": [SIDECAR], "server": server}}
    settings = {"identity": {**IDENTITY, "jwt": []}, "listeners": listeners, "deadlineSeconds": 25}
    async with DemoMesh(folder / "mesh", policies=folder / "policy.yaml", settings=settings) as mesh:
        config = replace(
            EnvoyConfig(upstream_port=mesh.upstream.port, authz_grpc_port=0, authz_http_port=0),
            authz_grpc_port=mesh.service.grpc_port or 0,
            authz_http_port=mesh.service.http_port or 0,
            timeout_seconds=30,
        )
        for name in ("envoy", "caller"):
            (folder / name).mkdir()
        authority.issue("sidecar", principal=SIDECAR).write(folder / "envoy")
        (folder / "envoy" / "ca.crt").write_bytes(authority.certificate)
        async with Envoy(config, folder / "envoy", sidecar(folder / "envoy", tls=tls)) as envoy:
            yield World(authority, envoy, folder / "caller", tls=tls)


@pytest.mark.parametrize("server", ["aiohttp", "native"])
async def test_a_caller_is_who_its_certificate_says(tmp_path: Path, server: str) -> None:
    """Named ServiceAccounts are known; others, and those without a certificate, are not, whatever they say."""
    async with opened(tmp_path, server=server) as world:
        for mode in ("grpc", "http"):
            editor = "system:serviceaccount:team-a:default-editor"
            assert await world.who(mode, EDITOR) == editor
            assert await world.who(mode, STRANGER) == ""
            assert await world.who(mode, "") == ""
            assert await world.who(mode, HOP) == ""
            for forged in FORGED:
                assert await world.who(mode, EDITOR, x_forwarded_client_cert=forged) == editor
                assert await world.who(mode, STRANGER, x_forwarded_client_cert=forged) == ""
                assert await world.who(mode, "", x_forwarded_client_cert=forged) == ""


async def test_only_the_named_hop_speaks_for_users(tmp_path: Path) -> None:
    """Its header names the user; anybody else's is taken off."""
    async with opened(tmp_path) as world:
        for mode in ("grpc", "http"):
            assert await world.who(mode, HOP, kubeflow_userid=BOB) == BOB
            assert await world.who(mode, STRANGER, kubeflow_userid=BOB) == ""
            assert await world.who(mode, EDITOR, kubeflow_userid=BOB) == "system:serviceaccount:team-a:default-editor"
            assert await world.who(mode, "", kubeflow_userid=BOB) == ""
            hop = f"By={EDITOR};Hash={'0' * 64};URI={HOP}"
            assert await world.who(mode, STRANGER, kubeflow_userid=BOB, x_forwarded_client_cert=hop) == ""


async def test_without_mtls_nobody_is_a_peer(tmp_path: Path) -> None:
    """The settings alone turn nothing on."""
    async with opened(tmp_path, tls=False) as world:
        for mode in ("grpc", "http"):
            for forged in FORGED:
                assert await world.who(mode, "", x_forwarded_client_cert=forged, kubeflow_userid=BOB) == ""
