"""Settings of the refusal page: what could lead or load elsewhere is refused at load, with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz import settings
from extauthz.errors import ConfigurationError


def load(folder: Path, **page: Any) -> settings.Settings:
    """Load settings with a refusal page."""
    data = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "response": {"refusalPage": page},
        "identity": {"jwt": [{"issuer": "https://issuer", "audiences": ["kubeflow"], "keys": {"discovery": True}}]},
        "access": {"rbac": {"manifests": ["rbac/"]}},
        "policy": {"paths": ["policies/"]},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return settings.load(folder / "settings.yaml")


@pytest.mark.parametrize(
    "link",
    [
        "/",
        "/?ns={namespace}",
        "https://help.example/{namespace}?by={user}",
        "http://localhost:8080",
        "mailto:it@example.com?subject=Access%20to%20{namespace}%20({requestId})",
        "https://help.example?{{literal}}",
    ],
)
def test_links_that_lead_where_the_settings_say(tmp_path: Path, link: str) -> None:
    """Paths, web pages and mail, with values after the host."""
    assert load(tmp_path, helpLink=link).response.refusal_page.help_link == link


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("javascript:alert(1)", "starts with https"),
        ("//evil.example", "one slash"),
        ("/\\evil.example", "one slash"),
        ("help", "starts with"),
        ("https://{namespace}.example/", "starts with"),
        ("{user}", "starts with"),
        ("mailto:{user}", "after its host or address"),
        ("/{name}", "one of namespace, user, requestId"),
        ("/{user.__class__}", "one of namespace, user, requestId"),
        ("/{user!r}", "one of namespace, user, requestId"),
        ("/{user:9}", "one of namespace, user, requestId"),
        ("/{", "one of namespace, user, requestId"),
        ("/a b", "percent-encode"),
        ('/"onclick=', "percent-encode"),
    ],
)
def test_other_links_are_refused_with_their_line(tmp_path: Path, link: str, why: str) -> None:
    """A caller never chooses where a link leads."""
    with pytest.raises(ConfigurationError, match=rf"settings.yaml:5:5: .*{why}"):
        load(tmp_path, helpLink=link)


@pytest.mark.parametrize(
    "logo",
    ["data:image/svg+xml;base64,PHN2Zy8+", "data:image/png;base64,AA==", "https://cdn.example/l.png", "/assets/l.svg"],
)
def test_logos(tmp_path: Path, logo: str) -> None:
    """Inline, from a host, or from the platform itself."""
    assert load(tmp_path, logo=logo).response.refusal_page.logo == logo


@pytest.mark.parametrize(
    "logo",
    [
        *("data:text/html;base64,AAAA", "data:image/svg+xml,<svg/>", "http://cdn.example/l.png", "//cdn.example/l.png"),
        *("https://cdn.example/l.png; script-src *", "https://cdn.example", "l.png", "/", '/l".png'),
        "data:image/png;base64," + "A" * 65536,
    ],
)
def test_other_logos_are_refused(tmp_path: Path, logo: str) -> None:
    """The Content-Security-Policy names where it comes from, so that must be plain."""
    with pytest.raises(ConfigurationError, match=r"settings.yaml:5:5: logo"):
        load(tmp_path, logo=logo)


def console(folder: Path, **more: Any) -> settings.Settings:
    """Load settings with a console."""
    data = yaml.safe_load((folder / "settings.yaml").read_text())
    edges = {name: {"server": "native"} for name in ("grpc", "http")}
    data["listeners"] = {**edges, "admin": {"console": more.pop("console", {})}}
    (folder / "settings.yaml").write_text(yaml.safe_dump({**data, **more}, sort_keys=False))
    return settings.load(folder / "settings.yaml")


def test_a_console_is_off_until_it_is_named(tmp_path: Path) -> None:
    """Then it is reached under the names of one's own machine only."""
    assert load(tmp_path).listeners.admin.console is None
    named = console(tmp_path).listeners.admin.console
    assert named is not None
    assert named.hosts == ["localhost", "127.0.0.1", "[::1]"]


@pytest.mark.parametrize("host", ["Console.example", "console.example:9002", "*", "http://console", ""])
def test_hosts_are_plain_names(tmp_path: Path, host: str) -> None:
    """A pattern would let in names that somebody else owns."""
    load(tmp_path)
    with pytest.raises(ConfigurationError, match=r"hosts\[0\]"):
        console(tmp_path, console={"hosts": [host]})


def test_a_console_and_several_workers_are_refused(tmp_path: Path) -> None:
    """Each worker would show its own decisions only."""
    load(tmp_path)
    with pytest.raises(ConfigurationError, match="console needs `workers: 1`"):
        console(tmp_path, workers=2)
