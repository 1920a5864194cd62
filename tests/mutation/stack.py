"""What the tests need to run in mutmut's processes.

Each function of a mutated package is called through two more, so there is more room on the stack. Tests are collected
twice in one process: names that pytest has kept for its workers would be escaped twice, and then not be found.
"""

from __future__ import annotations

import sys

import pytest

sys.setrecursionlimit(3 * sys.getrecursionlimit())


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for mark in metafunc.definition.iter_markers("parametrize"):
        if mark._param_ids_from:
            object.__setattr__(mark._param_ids_from, "_param_ids_generated", None)
