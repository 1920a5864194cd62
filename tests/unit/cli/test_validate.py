"""`extauthz validate`: 0 when all is well, 1 with warnings, 2 with errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases import REPOSITORY
from tests.unit.cli.conftest import Run

HEAD = "apiVersion: extauthz.dev/v1\nkind: Policy\nrules:"
GOOD = HEAD + "\n- {name: NAME, match: {path: /NAME}, allow: public}"
EMPTY = HEAD + " []"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for policies, away from the settings."""
    found = tmp_path / "policies"
    found.mkdir()
    return found


def write(file: Path, text: str) -> Path:
    """Write a policy, whose rule is named like the file."""
    file.write_text(text.replace("NAME", file.stem))
    return file


def test_shipped_policies_are_valid(extauthz: Run) -> None:
    """A folder is checked as one policy."""
    ran = extauthz("validate", REPOSITORY / "policies" / "kubeflow")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("ok: ")


def test_files_and_folders_together(extauthz: Run, folder: Path, config: Path) -> None:
    """Settings and policies are told apart by their kind, wherever they lie."""
    write(folder / "a.yaml", GOOD)
    other = write(folder.parent / "b.yml", GOOD)
    ran = extauthz("validate", folder, other, config)
    assert (ran.code, ran.out, ran.err) == (0, "ok: 3 files, 2 rules\n", "")


def test_all_policy_files_are_one_policy(extauthz: Run, folder: Path) -> None:
    """Rules of different files can collide."""
    first, second = write(folder / "a.yaml", GOOD), write(folder / "b.yaml", GOOD)
    second.write_text(GOOD.replace("NAME", "a"))
    ran = extauthz("validate", first, second)
    assert ran.code == 2
    assert ran.err == f"error: {second}:4:4: rule name 'a' is taken by a ({first}:4) (hint: choose another name)\n"


def test_errors_name_their_place(extauthz: Run, folder: Path) -> None:
    """Every error is one line with file, line, column and hint, on standard error."""
    one = write(folder / "a.yaml", GOOD + "\n- {name: b, match: {path: /b}, alow: public}")
    two = write(folder / "c.yaml", "a: 1\na: 2")
    ran = extauthz("validate", folder)
    assert (ran.code, ran.out) == (2, "")
    assert {
        f"error: {two}:2:1: duplicate key 'a' (hint: keep one of them)",
        f"error: {one}:5:32: unknown key 'alow' (hint: did you mean 'allow'?)",
    } <= set(ran.err.splitlines())


def test_warnings(extauthz: Run, folder: Path) -> None:
    """What loads but is hardly meant is a finding."""
    ran = extauthz("validate", write(folder / "a.yaml", EMPTY))
    assert (ran.code, ran.out) == (1, "ok: 1 files, 0 rules\n")
    assert ran.err == f"warning: {folder / 'a.yaml'}: the policy has no rule, so every request is refused\n"


def test_json(extauthz: Run, folder: Path) -> None:
    """Machines get the same on standard output."""
    file = write(folder / "a.yaml", GOOD)
    ran = extauthz("validate", "-o", "json", file)
    assert (ran.code, ran.answer, ran.err) == (0, {"valid": True, "errors": [], "warnings": []}, "")
    write(file, EMPTY)
    ran = extauthz("validate", "-o", "json", file)
    assert (ran.code, ran.answer["valid"], len(ran.answer["warnings"])) == (1, True, 1)
    write(file, "a: 1\na: 2")
    ran = extauthz("validate", "-o", "json", file)
    problem = {"message": "duplicate key 'a'", "file": str(file), "line": 2, "column": 1, "hint": "keep one of them"}
    assert (ran.code, ran.answer) == (2, {"valid": False, "errors": [problem], "warnings": []})
    ran = extauthz("validate", "-o", "yaml", file)
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize("content", [None, "", "# comment", "[]", "text"])
def test_what_is_no_policy(extauthz: Run, folder: Path, content: str | None) -> None:
    """Missing and empty files and other data cannot be used."""
    file = folder / "a.yaml"
    if content is not None:
        file.write_text(content)
    ran = extauthz("validate", file)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {file}")


def test_a_folder_without_policies(extauthz: Run, folder: Path) -> None:
    """A mistyped folder does not pass for a valid policy."""
    (folder / "README.md").write_text("x")
    ran = extauthz("validate", folder)
    assert (ran.code, ran.err) == (
        2,
        f"error: {folder}: no YAML file in this folder (hint: files end in .yaml or .yml)\n",
    )


def test_without_a_path(extauthz: Run) -> None:
    """Something must be named."""
    assert extauthz("validate").code == 2


def test_settings_with_what_they_name(extauthz: Run, config: Path, folder: Path) -> None:
    """Settings are valid only with their policy and manifests; what is named twice is told once."""
    bad = write(folder / "a.yaml", "a: 1\na: 2")
    text = config.read_text()
    start = text.index("policy:")
    end = text.find("\nresponse:", start)
    tail = text[end:] if end > 0 else "\n"
    config.write_text(f"{text[:start]}policy: {{paths: [{folder}]}}{tail}")
    ran = extauthz("validate", config, bad)
    assert (ran.code, ran.err) == (2, f"error: {bad}:2:1: duplicate key 'a' (hint: keep one of them)\n")
    write(bad, EMPTY)
    ran = extauthz("validate", config)
    assert (ran.code, ran.out) == (1, "ok: 1 files, 0 rules\n")
    config.write_text(config.read_text().replace("manifests:", "manifest:"))
    ran = extauthz("validate", config)
    assert ran.code == 2
    assert "unknown key 'manifest' (hint: did you mean 'manifests'?)" in ran.err


def test_a_shadow_over_everything_is_a_warning(extauthz: Run, folder: Path) -> None:
    """Nobody leaves a platform open by a file that he forgot: it is told with its place, and a pipeline fails."""
    write(folder / "a.yaml", GOOD)
    shadow = folder / "shadow.yaml"
    shadow.write_text("apiVersion: extauthz.dev/v1\nkind: Shadow\neverything: true\n")
    ran = extauthz("validate", folder)
    assert ran.code == 1
    assert f"warning: {shadow}:3:1: EVERY RULE IS IN SHADOW" in ran.err
    shadow.write_text("apiVersion: extauthz.dev/v1\nkind: Shadow\nnamespaces: [team-a]\n")
    assert extauthz("validate", folder).code == 0
