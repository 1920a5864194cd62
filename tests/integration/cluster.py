"""The mesh with a cluster as its authority: the test API server, loaded with the demo's rights."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession
from yarl import URL

from extauthz.access.authority import Cluster as ClusterAuthority
from extauthz.demo.mesh import MANIFESTS, DemoMesh
from extauthz.demo.scenario import tokens
from extauthz.review import ResourceAttributes
from extauthz.subject import Subject
from tests.apiserver import Cluster, Double
from tests.apiserver.manifests import delegate
from tests.apiserver.store import RESOURCES, Object
from tests.integration.conftest import MeshFactory

_IN_TEAM_A = ResourceAttributes("list", namespace="team-a")
_KINDS = {resource.kind for resource in RESOURCES.values()}
BRISK = {"backoffSeconds": 0.05, "maxBackoffSeconds": 0.2}
"""Watch settings that recover fast."""


def demo_manifests() -> list[Object]:
    """Return the rights of the demo's three tenants, and those of extauthz itself."""
    documents = (yaml.safe_load_all(file.read_text()) for file in sorted(MANIFESTS.glob("*.yaml")))
    found = [manifest for each in documents for manifest in each if manifest and manifest["kind"] in _KINDS]
    _aggregate([manifest for manifest in found if manifest["kind"] == "ClusterRole"])
    return [*delegate(), *found]


def _aggregate(roles: list[Object]) -> None:
    """Fill aggregated roles as the controller of a real cluster does; the demo's select by `matchLabels` alone."""
    aggregated = [role for role in roles if "aggregationRule" in role]
    for _ in aggregated:  # they feed each other
        for role in aggregated:
            selectors = [each["matchLabels"].items() for each in role["aggregationRule"]["clusterRoleSelectors"]]
            members = [
                other
                for other in roles
                if other is not role
                and any(selector <= other["metadata"].get("labels", {}).items() for selector in selectors)
            ]
            rules = [json.dumps(rule, sort_keys=True) for member in members for rule in member["rules"]]
            role["rules"] = [json.loads(rule) for rule in dict.fromkeys(rules)]


def owner(team: str) -> Object:
    """Return the RoleBinding that makes somebody the owner of a team's namespace."""
    return next(
        manifest
        for manifest in demo_manifests()
        if (manifest["metadata"]["name"], manifest["metadata"].get("namespace")) == ("namespaceAdmin", f"team-{team}")
    )


def settings(kubeconfig: Path, **limits: Any) -> dict[str, Any]:
    """Return what to lay over the demo's settings, so that a cluster is asked; `limits` are of `access.kubernetes`."""
    return {"access": {"rbac": None, "kubernetes": {"kubeconfig": str(kubeconfig), "watch": BRISK, **limits}}}


def authority_of(mesh: DemoMesh) -> ClusterAuthority:
    """Return the mesh's own authority."""
    authority = mesh.service.authority
    assert isinstance(authority, ClusterAuthority)
    return authority


async def ready(mesh: DemoMesh) -> ClusterAuthority:
    """Wait until the API server has answered and every change is seen."""
    authority = authority_of(mesh)
    await authority.answered.wait()
    await authority.watch.wait_until(lambda: not authority.watch.problems())
    return authority


async def event(authority: ClusterAuthority, who: str) -> None:
    """Wait for an event that changes what somebody may do in team-a."""
    subject, epoch = Subject.authenticated(f"{who}@example.com"), authority.watch._generations.epoch
    generations = authority.watch._generations
    await authority.watch.wait_until(lambda: not generations.unchanged_since(epoch, subject, _IN_TEAM_A))


class Clients:
    """The demo's users, each with a token, who ask Envoy in either mode."""

    def __init__(self, mesh: DemoMesh, session: ClientSession) -> None:
        self._urls = mesh.urls
        self._session = session
        self._headers = {name: {"authorization": f"Bearer {token}"} for name, token in tokens(mesh.signer).items()}

    async def status(self, who: str, path: str, *, mode: str = "grpc", headers: Mapping[str, str] | None = None) -> int:
        """Return the status of a GET."""
        url = URL(self._urls[mode] + path, encoded=True)
        async with self._session.get(url, headers={**self._headers[who], **(headers or {})}) as response:
            await response.read()
            return response.status


def runs(team: str) -> str:
    """Return the path that lists a team's runs."""
    return f"/pipeline/apis/v2beta1/runs?namespace=team-{team}"


@asynccontextmanager
async def api_server(
    folder: Path, *, port: int = 0, without: Sequence[Object] = ()
) -> AsyncIterator[tuple[Process, Cluster]]:
    """Run the test API server as its own process, loaded with the demo's rights; it is killed in the end."""
    command = (sys.executable, "-m", "tests.apiserver", "--folder", str(folder), "--port", str(port))
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        url = json.loads(await process.stdout.readline())["url"]
        async with Cluster(url, None, folder) as cluster:
            await cluster.apply(*(manifest for manifest in demo_manifests() if manifest not in without))
            yield process, cluster
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def double(tmp_path: Path) -> AsyncIterator[Double]:
    """The test API server over TLS, with the demo's rights."""
    async with Double.running(tmp_path) as server:
        for manifest in demo_manifests():
            server.write(manifest)
        yield server


@pytest.fixture
async def mesh(double: Double, new_mesh: MeshFactory) -> AsyncIterator[DemoMesh]:
    """The demo, except that the API server decides."""
    async with new_mesh(settings=settings(double.kubeconfig())) as running:
        await ready(running)
        yield running
