"""What a test may ask of an API server, whether the double or a real one."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.apiserver import tokens
from tests.apiserver.store import RESOURCES, Object

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_RESOURCES = {resource.kind: resource for resource in RESOURCES.values()}


class Cluster:
    """An API server's address, and its administrator's hands on it."""

    def __init__(self, url: str, ca: Path | None, folder: Path) -> None:
        self.url = url
        self.ca = ca
        self.folder = folder
        self.applied: list[Object] = []
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {tokens.ADMIN}"})
        self._tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca) if ca else True

    async def close(self) -> None:
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def apply(self, *manifests: Object) -> Object:
        """Create or replace objects; return the last one as the server stored it."""
        stored: Object = {}
        for manifest in manifests:
            path = self.path(manifest)
            status, stored = await self.call("POST", path.rpartition("/")[0], manifest)
            if status == 409:
                status, stored = await self.call("PUT", path, manifest)
            assert status in (200, 201), stored
            self.applied.append(manifest)
        return stored

    async def delete(self, manifest: Object) -> None:
        """Delete the object that a manifest names."""
        status, answer = await self.call("DELETE", self.path(manifest))
        assert status == 200, answer

    async def settled(self) -> None:
        """Wait until reviews know of everything written before."""

    @staticmethod
    def path(manifest: Object) -> str:
        """Return the URL path of an object."""
        resource = _RESOURCES[manifest["kind"]]
        prefix = f"/apis/{resource.group}/v1" if resource.group else "/api/v1"
        namespace = f"/namespaces/{manifest['metadata']['namespace']}" if resource.namespaced else ""
        return f"{prefix}{namespace}/{resource.plural}/{manifest['metadata']['name']}"

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send one request as the administrator."""
        async with self._session.request(method, self.url + path, json=body, ssl=self._tls) as response:
            return response.status, await response.json()

    def kubeconfig(self, token: str = tokens.EXTAUTHZ, **cluster: Any) -> Path:
        """Write a kubeconfig for a token; JSON is YAML."""
        authority = {"certificate-authority": str(self.ca)} if self.ca else {}
        return write_kubeconfig(
            self.folder / "kubeconfig", {"server": self.url, **authority, **cluster}, {"token": token}
        )


def write_kubeconfig(file: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    """Write a kubeconfig with one context."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
    }
    file.write_text(json.dumps(document))
    return file
