"""`extauthz schema` prints what editors need."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "title"), [((), "PolicyModel"), (("policy",), "PolicyModel"), (("settings",), "Settings")]
)
def test_schema(extauthz: Run, arguments: tuple[str, ...], title: str) -> None:
    """The schema of policies unless settings are asked for."""
    ran = extauthz("schema", *arguments)
    assert (ran.code, ran.answer["title"], ran.err) == (0, title, "")


def test_an_unknown_kind(extauthz: Run) -> None:
    """Other kinds of files have no schema."""
    ran = extauthz("schema", "manifests")
    assert (ran.code, ran.out) == (2, "")


def test_settings_as_tables(extauthz: Run) -> None:
    """What `docs/settings.md` holds; of other files there are no tables."""
    ran = extauthz("schema", "settings", "--markdown")
    assert (ran.code, ran.out.startswith("# Settings")) == (0, True)
    assert extauthz("schema", "policy", "--markdown").code == 2
