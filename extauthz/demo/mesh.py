"""Everything of the local mesh together: issuer, stub Kubeflow, extauthz itself, and Envoy in front."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import yaml

from extauthz import settings as settings_module
from extauthz.demo import HOST
from extauthz.demo.envoy import Envoy, EnvoyConfig
from extauthz.demo.issuer import AUDIENCE, Issuer, Signer
from extauthz.demo.upstream import Upstream
from extauthz.service import Service
from extauthz.settings import Settings

_FILES = Path(__file__).parent / "files"
MANIFESTS = _FILES / "rbac"
"""The rights of three tenants: alice's team-a, bob's team-b and carol's team-c."""


def shipped_policies() -> Path:
    """Return the folder of the shipped policy: the package's, or the repository's in a source checkout."""
    packaged = _FILES / "policies"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "policies" / "kubeflow"


class DemoMesh:
    """The running mesh, as an async context manager; its files lie in `folder`.

    With `port` 0 both listeners are on free ports; otherwise gRPC mode is on `port` and
    HTTP mode on the one after it. `settings` is laid over the demo's settings file, and
    `envoy` names fields of EnvoyConfig to set. Raises DemoError and ConfigurationError.
    """

    signer: Signer
    upstream: Upstream
    service: Service
    envoy: Envoy

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        policies: Path | None = None,
        manifests: Path = MANIFESTS,
        settings: Mapping[str, Any] | None = None,
        envoy: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.settings_file = folder / "settings.yaml"
        self.policies = policies or shipped_policies()
        self.manifests = manifests
        self._port = port
        self._settings = settings or {}
        self._envoy = envoy or {}
        self._stack = AsyncExitStack()

    @property
    def urls(self) -> dict[str, str]:
        """Envoy's listeners, by mode: `grpc` and `http`."""
        return {"grpc": self.envoy.grpc_url, "http": self.envoy.http_url}

    @property
    def audit_file(self) -> Path:
        """The log of every decision."""
        return self.folder / "audit.jsonl"

    @property
    def admin_url(self) -> str:
        """The admin listener of extauthz itself."""
        return f"http://{HOST}:{self.service.admin_port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.signer = (await stack.enter_async_context(Issuer(self.folder))).signer
            self.upstream = await stack.enter_async_context(Upstream())
            settings = self._write_settings()
            self.service = Service(settings)
            stack.push_async_callback(self.service.stop)
            await self.service.start()
            self.envoy = await stack.enter_async_context(Envoy(self._envoy_config(settings), self.folder))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _write_settings(self) -> Settings:
        (self.folder / "kfp-token").write_text("demo")
        kfp = {"url": f"http://{HOST}:{self.upstream.port}", "tokenFile": "kfp-token"}
        shipped = {"lookups": {"kfp": kfp}, **_settings(self.signer.issuer, self.policies, self.manifests)}
        content = _overlay(shipped, self._settings)
        self.settings_file.write_text(yaml.safe_dump(content, sort_keys=False))
        return settings_module.load(self.settings_file)

    def _envoy_config(self, settings: Settings) -> EnvoyConfig:
        config = EnvoyConfig(
            upstream_port=self.upstream.port,
            authz_grpc_port=self.service.grpc_port or 0,
            authz_http_port=self.service.http_port or 0,
            path_prefix=settings.listeners.http.path_prefix if settings.listeners.http else "",
            max_request_bytes=settings.body.max_request_bytes,
            grpc_port=self._port,
            http_port=self._port + 1 if self._port else 0,
        )
        return dataclasses.replace(config, **self._envoy)


def _settings(issuer: str, policies: Path, manifests: Path) -> dict[str, Any]:
    address = f"{HOST}:0"
    return {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "listeners": {
            "grpc": {"address": address},
            "http": {"address": address, "pathPrefix": "/check"},
            "admin": {"address": address, "console": {}},
        },
        "identity": {
            "jwt": [
                {
                    "issuer": issuer,
                    "audiences": [AUDIENCE],
                    "keys": {"discovery": True},
                    "claims": {"user": "email", "groups": "groups"},
                }
            ]
        },
        "access": {"rbac": {"manifests": [str(manifests.resolve())]}},
        "policy": {"paths": [str(policies.resolve())]},
        "response": {"refusalPage": {"tellOwner": True}},
        "audit": {"output": "file", "file": "audit.jsonl", "allowShare": 1.0},
    }


def _overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `top` laid over it; mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in top.items():
        below = base.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
