"""What all tests share: in CI a skip is a failure, no example of hypothesis is too slow, security cases have names."""

from __future__ import annotations

from collections.abc import Generator

import hypothesis
import pytest

from tests.security.table import cases_of

hypothesis.settings.register_profile("patient", deadline=None)  # machines stall
hypothesis.settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-skips", action="store_true", help="turn every skipped test into a failure")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let `-k flight-001` run the tests that hold this security case, whatever they are called."""
    item.extra_keyword_matches.update(cases_of(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--strict-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped although everything should be installed: {report.longrepr}"
    return report
