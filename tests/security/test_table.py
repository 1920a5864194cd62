"""Every security case is held by a test that there is, and the documentation says by which."""

from __future__ import annotations

from tests.security import table


def test_every_case_is_held() -> None:
    """By at least one test."""
    assert [case for case, tests in table.holding().items() if not tests] == []


def test_every_listed_test_is_there() -> None:
    """A test that is renamed or removed leaves its case open."""
    functions = table.functions()
    names = [name for tests in table.listed().values() for name in tests]
    assert [name for name in names if name.partition("::")[2] not in functions.get(name.partition("::")[0], [])] == []


def test_nothing_else_is_listed() -> None:
    """A case that is not there needs no test."""
    assert set(table.listed()) <= {case["id"] for case in table.cases()}


def test_the_documentation_is_current() -> None:
    """`python -m tests.security.table` writes it."""
    assert table.DOCUMENT.read_text().partition(table.MARK)[2].strip() == table.table().strip()
