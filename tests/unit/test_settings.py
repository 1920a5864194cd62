"""Settings: what loads, what does not, and what each mistake is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz import settings
from extauthz.errors import ConfigurationError


def minimal() -> dict[str, Any]:
    """Return the least that loads."""
    return {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "identity": {"jwt": [{"issuer": "https://issuer", "audiences": ["kubeflow"], "keys": {"discovery": True}}]},
        "access": {"rbac": {"manifests": ["rbac/"]}},
        "policy": {"paths": ["policies/"]},
    }


def load(tmp_path: Path, data: Any) -> settings.Settings:
    """Load settings given as data."""
    file = tmp_path / "settings.yaml"
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False))
    return settings.load(file)


def test_the_least_that_loads(tmp_path: Path) -> None:
    """Everything that is not said has a careful default."""
    loaded = load(tmp_path, minimal())
    (issuer,) = loaded.identity.jwt
    assert (issuer.algorithms, issuer.header, issuer.claims.user) == (["RS256"], "authorization", "sub")
    assert loaded.listeners.grpc is not None
    assert not loaded.listeners.grpc.reflection
    assert loaded.response.user_header == "kubeflow-userid"


def test_paths_count_from_the_settings_file(tmp_path: Path) -> None:
    """Relative paths are relative to the file's folder, absolute ones stay."""
    loaded = load(tmp_path, minimal())
    assert loaded.resolve(loaded.policy.paths[0]) == tmp_path.resolve() / "policies"
    assert loaded.resolve(Path("/etc/x")) == Path("/etc/x")


def test_edges_can_be_switched_off(tmp_path: Path) -> None:
    """An explicit null is not a default."""
    loaded = load(tmp_path, minimal() | {"listeners": {"grpc": None, "http": None}})
    assert (loaded.listeners.grpc, loaded.listeners.http) == (None, None)


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the least settings with one value changed, or removed where it is None."""
    data = minimal()
    here: Any = data
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for part in parents:
        here = here.setdefault(part, {}) if isinstance(here, dict) else here[part]
    if value is None:
        del here[last]
    else:
        here[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("apiVersion", None, "1:1: required key 'apiVersion' is missing"),
        ("kind", "Policy", "2:1: kind: Input should be 'Settings'"),
        ("identity", None, "1:1: required key 'identity' is missing"),
        ("identity.jwt.0.audiences", None, "5:5: required key 'audiences' is missing"),
        ("identity.jwt.0.audiences", [], "audiences: List should have at least 1 item"),
        ("identity.jwt.0.audiences", [""], "audiences[0]: String should have at least 1 character"),
        ("identity.jwt.0.issuer", None, "5:5: required key 'issuer' is missing"),
        ("identity.jwt.0.keys", None, "5:5: required key 'keys' is missing"),
        ("identity.jwt.0.keys", {}, "keys need exactly one of"),
        ("identity.jwt.0.keys", {"discovery": True, "file": "x"}, "keys need exactly one of"),
        ("identity.jwt.0.keys", {"url": "file:///etc/passwd"}, "url: String should match pattern"),
        ("identity.jwt.0.algorithms", ["none"], "algorithms[0]: Input should be"),
        ("identity.jwt.0.algorithms", ["HS256"], "(hint: did you mean 'RS256'?)"),
        ("identity.jwt.0.algorithms", [], "algorithms: List should have at least 1 item"),
        ("identity.jwt.0.leewaySeconds", 3600, "leewaySeconds: Input should be less than or equal to 300"),
        ("identity.jwt.0.leewaySeconds", "30", "leewaySeconds: Input should be a valid number"),
        ("identity.jwt.0.header", "Authorization", "header: String should match pattern"),
        ("identity.jwt.0.audience", ["x"], "unknown key 'audience' (hint: did you mean 'audiences'?)"),
        ("identity.maxCachedTokens", True, "maxCachedTokens: Input should be a valid integer"),
        ("listeners.grpc", {"address": "9000"}, "address: String should match pattern"),
        ("listeners.http", {"pathPrefix": "/a/"}, "pathPrefix: String should match pattern"),
        ("listeners.http", {"path_prefix": "/a"}, "unknown key 'path_prefix' (hint: did you mean 'pathPrefix'?)"),
        ("listeners.grcp", {}, "unknown key 'grcp' (hint: did you mean 'grpc'?)"),
        ("access.rbac.manifests", [], "manifests: List should have at least 1 item"),
        ("policy.paths", [], "paths: List should have at least 1 item"),
        ("policy", "policies/", "policy: Input should be a valid dictionary"),
        ("response.groupsHeader", "kubeflow-userid", "userHeader, groupsHeader and removeHeaders must all differ"),
        ("body.maxRequestBytes", 0, "maxRequestBytes: Input should be greater than or equal to 1"),
    ],
)
def test_mistakes(tmp_path: Path, path: str, value: Any, message: str) -> None:
    """No issuer, audience or algorithm is ever assumed, and each mistake is told at its place."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, changed(path, value))
    assert message in str(caught.value)
    assert all(problem.line for problem in caught.value.problems)


def test_one_issuer_twice(tmp_path: Path) -> None:
    """Two ways to verify one issuer's token in one header would contradict each other."""
    data = minimal()
    data["identity"]["jwt"] *= 2
    with pytest.raises(ConfigurationError, match="configured twice"):
        load(tmp_path, json.dumps(data))


@pytest.mark.parametrize("text", ["", "---\n---\n", "a: 1\n---\nb: 2\n---\nc: 3"])
def test_one_document(tmp_path: Path, text: str) -> None:
    """A settings file is one document."""
    with pytest.raises(ConfigurationError, match=r"no YAML document|expected one YAML document, found [23]"):
        load(tmp_path, text)
