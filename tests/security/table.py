"""Which test holds which security case: by its name, or by `held.yaml`.

`python -m tests.security.table` writes the table of docs/security.md again.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Any

import yaml

from tests.cases import DATA, REPOSITORY

TESTS = REPOSITORY / "tests"
DOCUMENT = REPOSITORY / "docs" / "security.md"
MARK = "<!-- the table is written by python -m tests.security.table -->"
SOAK = "life-007"
"""The case that takes an hour: `make soak`."""
THROUGH_ENVOY = "security/test_cases_through_envoy.py::test_every_case"

_NAMED = re.compile(r"(?:^|_)([a-z]+_[0-9]{3}(?:_[0-9]{3})*)(?:_|$)")


@cache
def cases() -> list[dict[str, Any]]:
    """Return every case."""
    found: list[dict[str, Any]] = yaml.safe_load((DATA / "security-cases.yaml").read_text())
    return found


@cache
def listed() -> dict[str, list[str]]:
    """Return the tests of the cases that are listed."""
    found: dict[str, list[str]] = yaml.safe_load((TESTS / "security" / "held.yaml").read_text())
    return found


def named(function: str) -> list[str]:
    """Return the ids in a test's name: `jwt_003_004_key` is `jwt-003` and `jwt-004`."""
    found = []
    for match in _NAMED.finditer(function):
        category, *numbers = match[1].split("_")
        found += [f"{category}-{number}" for number in numbers]
    return found


@cache
def functions() -> dict[str, list[str]]:
    """Return the names of the test functions of each file below tests/."""
    found = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        tree = ast.walk(ast.parse(file.read_text()))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        found[str(file.relative_to(TESTS))] = [
            node.name for node in tree if isinstance(node, kinds) and node.name.startswith("test_")
        ]
    return found


def holding() -> dict[str, list[str]]:
    """Return the tests that hold each case."""
    found: dict[str, list[str]] = {case["id"]: list(listed().get(case["id"], [])) for case in cases()}
    for file, names in functions().items():
        for name in names:
            for identifier in named(name):
                if identifier in found:
                    found[identifier].append(f"{file}::{name}")
    for case in cases():
        if "request" in case["input"]:
            found[case["id"]] += ["security/test_cases.py::test_case", THROUGH_ENVOY]
    found[SOAK].append("chaos/soak.py")
    return found


def cases_of(node: str) -> list[str]:
    """Return the ids of the cases that a test holds, from its place as pytest names it."""
    return _cases_by_test().get(node.partition("[")[0].removeprefix("tests/"), [])


@cache
def _cases_by_test() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case, tests in holding().items():
        for test in tests:
            if test != "security/test_cases.py::test_case":  # it names its cases itself
                found.setdefault(test, []).append(case)
    return found


def table() -> str:
    """Return the table in Markdown."""
    tests = holding()
    lines = ["| Case | Threat | Held by |", "|---|---|---|"]
    for case in cases():
        asked = case["input"]
        threat = asked.get("when") or f"{asked['request']['method']} {asked['request']['path']}"
        names = ", ".join(f"`{name}`" for name in tests[case["id"]])
        lines.append(f"| {case['id']} | {_cell(threat)} | {names} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    shown = "".join(character if character.isprintable() else " " for character in text[:120])
    return "`" + shown.replace("`", "'").replace("|", "\\|") + "`"


def write() -> None:
    """Write the table into the document."""
    above = DOCUMENT.read_text().partition(MARK)[0]
    DOCUMENT.write_text(f"{above}{MARK}\n\n{table()}")


if __name__ == "__main__":
    write()
