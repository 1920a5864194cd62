"""`extauthz fmt` from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run

UNTIDY = "kind: Policy\napiVersion: extauthz.dev/v1\nrules: [{name: a, match: {path: /x}, allow: public}]\n"
TIDY = "apiVersion: extauthz.dev/v1\nkind: Policy\nrules: [{name: a, match: {path: /x}, allow: public}]\n"


def test_files_are_written_once(extauthz: Run, tmp_path: Path) -> None:
    """--check writes nothing and fails; the next run formats, once; files that are no policies are left alone."""
    file, other = tmp_path / "policy.yaml", tmp_path / "tests.yaml"
    file.write_text(UNTIDY)
    file.chmod(0o640)
    other.write_text("kind:   PolicyTest\n")
    done = extauthz("fmt", "--check", str(tmp_path))
    assert (done.code, done.out, file.read_text()) == (1, f"would format {file}\n", UNTIDY)
    done = extauthz("fmt", str(tmp_path))
    assert (done.code, done.out, file.read_text()) == (0, f"formatted {file}\n", TIDY)
    assert file.stat().st_mode & 0o777 == 0o640
    assert extauthz("fmt", "--check", str(tmp_path)).code == 0
    assert other.read_text() == "kind:   PolicyTest\n"
    assert {found.name for found in tmp_path.iterdir()} == {"policy.yaml", "tests.yaml"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (UNTIDY.replace("allow", "alow"), "did you mean 'allow'?"),
        ("kind: Settings\n", "holds something else"),
        ("a: [", "not valid YAML"),
        (UNTIDY + "# \x07\n", "control character"),
    ],
)
def test_what_does_not_load_is_not_written(extauthz: Run, tmp_path: Path, content: str, message: str) -> None:
    """The error names the place, and the file stays as it is."""
    file = tmp_path / "policy.yaml"
    file.write_text(content)
    done = extauthz("fmt", str(file))
    assert done.code == 2
    assert message in done.err
    assert file.read_text() == content
