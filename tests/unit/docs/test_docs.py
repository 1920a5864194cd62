"""The documentation holds: what it shows loads, runs and prints what it says, and nothing is left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz import policy, settings
from extauthz.cli.schema import table
from extauthz.document import parse
from extauthz.loading import KEYS, LOOKUPS
from extauthz.policytest.model import CaseModel
from extauthz.settings import Settings, environment
from extauthz.settings.identity import Identity
from tests.cases import REPOSITORY
from tests.unit.cli.conftest import Run, extauthz

__all__ = ["extauthz"]

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LEAST = {
    "apiVersion": "extauthz.dev/v1",
    "kind": "Settings",
    "identity": {"jwt": [{"issuer": "i", "audiences": ["a"], "keys": {"url": "https://i/"}}]},
    "access": {"rbac": {"manifests": ["rbac.yaml"]}},
    "policy": {"paths": ["policy.yaml"]},
}
ELSEWHERE = re.compile(r"--live|--admin|\bkubectl\b|\bcurl\b|\bserve\b|\bdemo\b")
"""Commands that need a cluster or do not end; the tests of those commands run them."""
WHOLE = {"tuning"}
"""Pages whose commands build on each other; a test of its own runs each of them as a whole."""


def blocks(kind: str) -> Iterator[Any]:
    """Yield the code blocks of a kind, with the page and what they are told to be."""
    for page in PAGES:
        for number, (info, text) in enumerate(BLOCK.findall(page.read_text())):
            if info.split()[:1] == kind.split():
                yield pytest.param(page, text, id=f"{page.stem}-{number}")


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a part of a settings file over the least that loads."""
    both = {key: merged(base[key], over[key]) for key in base.keys() & over.keys() if isinstance(base[key], dict)}
    return {**base, **over, **{key: value for key, value in both.items() if isinstance(over[key], dict)}}


@pytest.mark.parametrize(("page", "text"), list(blocks("yaml")))
def test_yaml_is_what_it_claims_to_be(page: Path, text: str, tmp_path: Path) -> None:
    """Policies and settings load, whole or in part; everything else is an object of Kubernetes."""
    text = text.replace("…", "AAAA")  # an image that is too long to be shown
    for document in parse(text.encode(), page):
        data = document.data
        if data.get("kind") == "Policy":
            file = tmp_path / "policy.yaml"
            file.write_text(text)
            assert policy.load([file], KEYS, LOOKUPS).rules
        elif "apiVersion" in data and data["apiVersion"] != LEAST["apiVersion"]:
            assert data["kind"]
        elif "tests" in data:
            assert [CaseModel.model_validate(test) for test in yaml.safe_load(text)["tests"]]
        elif data.keys() <= Identity.model_json_schema(by_alias=True)["properties"].keys():
            assert Identity.model_validate(yaml.safe_load(text)).kinds
        else:
            file = tmp_path / "settings.yaml"
            file.write_text(yaml.safe_dump(merged(LEAST, data)))
            assert settings.load(file)


def commands() -> Iterator[Any]:
    """Yield each command line of ours that a page shows with a prompt, and what it says is printed."""
    for page in (page for page in PAGES if page.stem not in WHOLE):
        for _, text in BLOCK.findall(page.read_text()):
            for shown in re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
                line, _, printed = shown.partition("\n")
                if re.match(r"(\.venv/bin/)?extauthz ", line) and not ELSEWHERE.search(line):
                    yield pytest.param(line, printed, id=f"{page.stem}: {line[:60]}")


@pytest.mark.parametrize(("line", "printed"), list(commands()))
def test_commands_print_what_they_are_said_to(
    extauthz: Run, line: str, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word, but for numbers, which move with every rule."""
    monkeypatch.chdir(REPOSITORY)
    ran = extauthz(*shlex.split(line)[1:])
    assert ran.code in (0, 1), ran.err
    assert plain(ran.out) == plain(printed)


def plain(text: str) -> str:
    return re.sub(r"\d+", "#", " ".join(text.replace(f"{REPOSITORY}/", "").split()))


def test_every_setting_is_told() -> None:
    """When this fails, run `make docs`."""
    assert (DOCS / "settings.md").read_text().rstrip("\n") == table()


def test_every_alert_has_its_section() -> None:
    """Whoever is woken finds what it means and what to do, and no section is of an alert that is gone."""
    rules = yaml.safe_load((REPOSITORY / "istio" / "components" / "monitoring" / "alerts.yaml").read_text())
    alerts = [rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    sections = re.findall(r"^## (\w+)$", (DOCS / "runbook.md").read_text(), re.MULTILINE)
    assert sections == alerts


def test_every_page_is_in_the_index() -> None:
    """And the index names no page that is not there."""
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text()))
    assert named == {page.name for page in DOCS.glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of this repository, and where it says so to a heading in it."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        file = (page.parent / target) if target else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_environment_variables_exist(page: Path) -> None:
    """Each that is named sets a key, or is one that kubelet sets."""
    known = {name for name, _ in environment.names(Settings)}
    for name in re.findall(r"\bEXTAUTHZ_[A-Z0-9_]*[A-Z0-9]\b", page.read_text()):
        assert name in known or environment._SERVICE_LINK.fullmatch(name), name


def test_reasons_in_the_runbook_exist() -> None:
    """A reason that is named there is one that the code gives."""
    code = "\n".join(file.read_text() for file in (REPOSITORY / "extauthz").rglob("*.py"))
    table = re.findall(r"^\| (`.*) \|.*\|$", (DOCS / "runbook.md").read_text(), re.MULTILINE)
    reasons = [reason for row in table for reason in re.findall(r"`([a-z_]+)`", row) if reason != "reason"]
    assert reasons
    assert [reason for reason in reasons if f'"{reason}"' not in code] == []
