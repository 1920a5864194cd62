"""Environment variables above the settings file: what they set, and what is said of wrong ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from extauthz import settings
from extauthz.errors import ConfigurationError
from extauthz.settings import Settings, environment

BASE = {
    "apiVersion": "extauthz.dev/v1",
    "kind": "Settings",
    "listeners": {"grpc": {"address": "127.0.0.1:1"}, "http": None},
    "identity": {"jwt": [{"issuer": "i", "audiences": ["a"], "keys": {"url": "https://i/"}}]},
    "access": {"rbac": {"manifests": ["rbac.yaml"]}},
    "policy": {"paths": ["policy.yaml"]},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file."""
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(BASE))
    return file


def problems(file: Path, **variables: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        settings.load(file, variables)
    return str(raised.value)


def test_variables_stand_above_the_file(file: Path) -> None:
    """Text is taken as it is, other values are YAML, and keys that the file leaves out are made."""
    found = settings.load(
        file,
        {
            "EXTAUTHZ_LISTENERS_GRPC_ADDRESS": "[::1]:9",
            "EXTAUTHZ_LISTENERS_HTTP_PATH_PREFIX": "/check",
            "EXTAUTHZ_DEADLINE_SECONDS": "0.5",
            "EXTAUTHZ_POLICY_PATHS": "[a.yaml, b.yaml]",
            "EXTAUTHZ_AUDIT_OUTPUT": "stdout",
            "EXTAUTHZ_RESPONSE_GROUPS_HEADER": "x-123",
            "PATH": "/bin",
        },
    )
    assert found.listeners.grpc is not None
    assert found.listeners.http is not None
    assert found.listeners.grpc.address == "[::1]:9"
    assert found.listeners.http.path_prefix == "/check"
    assert found.deadline_seconds == 0.5
    assert found.policy.paths == [Path("a.yaml"), Path("b.yaml")]
    assert (found.audit.output, found.response.groups_header) == ("stdout", "x-123")


def test_a_whole_part_can_be_set_or_switched_off(file: Path) -> None:
    """YAML of a mapping replaces the file's, and `null` is nothing."""
    found = settings.load(file, {"EXTAUTHZ_LISTENERS_GRPC": "null", "EXTAUTHZ_LISTENERS_HTTP": "{server: native}"})
    assert found.listeners.grpc is None
    assert found.listeners.http is not None
    assert found.listeners.http.server == "native"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LISTENERS_GRPC_ADRESS", "x", "did you mean 'EXTAUTHZ_LISTENERS_GRPC_ADDRESS'?"),
        ("NOTHING_LIKE_IT", "x", "names no key"),
        ("LISTENERS_GRPC_ADDRESS", "nowhere", "address: String should match"),
        ("DEADLINE_SECONDS", "soon", "deadlineSeconds: Input should be a valid number"),
        ("POLICY_PATHS", "[a", "not YAML"),
        ("AUDIT_OUTPUT", "stdot", "output: Input should be 'off', 'stdout' or 'file' (hint: did you mean 'stdout'?)"),
        ("LISTENERS_HTTP", "{sever: native}", "unknown key 'sever' (hint: did you mean 'server'?)"),
    ],
)
def test_a_wrong_variable_is_named(file: Path, name: str, value: str, said: str) -> None:
    """The error says which variable, as it says which line of a file."""
    told = problems(file, **{f"EXTAUTHZ_{name}": value})
    assert told.startswith(f"environment variable EXTAUTHZ_{name}")
    assert said in told


def test_all_wrong_variables_are_named_at_once(file: Path) -> None:
    """Nobody has to mend one to learn of the next."""
    said = problems(file, EXTAUTHZ_A="1", EXTAUTHZ_B="2")
    assert "EXTAUTHZ_A" in said
    assert "EXTAUTHZ_B" in said


def test_a_variable_below_a_list_is_refused(file: Path) -> None:
    """A key below something that the file gives as text cannot be set."""
    file.write_text(yaml.safe_dump({**BASE, "audit": "text"}))
    assert "is below a value that has no keys" in problems(file, EXTAUTHZ_AUDIT_OUTPUT="stdout")


@pytest.mark.parametrize(
    "name",
    [
        "EXTAUTHZ_SERVICE_HOST",
        "EXTAUTHZ_SERVICE_PORT",
        "EXTAUTHZ_SERVICE_PORT_GRPC_CHECK",
        "EXTAUTHZ_PORT",
        "EXTAUTHZ_PORT_9000_TCP",
        "EXTAUTHZ_PORT_9000_TCP_ADDR",
        "EXTAUTHZ_ADMIN_SERVICE_HOST",
        "EXTAUTHZ_ADMIN_PORT_9002_TCP_PROTO",
    ],
)
def test_what_kubelet_sets_for_services_is_left_alone(file: Path, name: str) -> None:
    """A Service called extauthz puts such variables into every pod of its namespace."""
    assert settings.load(file, {name: "tcp://10.0.0.1:9000"}) == settings.load(file)


def test_no_variable_has_two_meanings() -> None:
    """Each key has a variable of its own, and none looks like one that kubelet sets."""
    names = [name for name, _ in environment.names(Settings)]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert not [name for name in names if environment._SERVICE_LINK.fullmatch(name)]
    assert "EXTAUTHZ_ACCESS_KUBERNETES_CACHE_TTL_WITHOUT_WATCH_SECONDS" in names
