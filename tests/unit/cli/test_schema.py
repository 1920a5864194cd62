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
