"""Fuzz targets that read a file of an admin's: it loads, or every problem is told with the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from extauthz import policy, settings
from extauthz.access import rbac
from extauthz.errors import ConfigurationError, Problem
from extauthz.review import ResourceAttributes
from extauthz.subject import Subject
from tests.cases import KEYS, LOOKUPS


class File:
    """A loader and the name of the file that it is given."""

    def __init__(self, folder: Path, load: Callable[[Path], object]) -> None:
        self._load = load
        self._file = folder / "fuzzed.yaml"

    def __call__(self, data: bytes) -> None:
        self._file.write_bytes(data)
        problems = self._problems()
        assert problems is None or problems
        assert all("fuzzed.yaml" in str(problem) for problem in problems or ()), problems

    def _problems(self) -> tuple[Problem, ...] | None:
        """Load the file; return what is told to be wrong with it, None where it loads."""
        try:
            self._load(self._file)
        except ConfigurationError as error:
            return error.problems
        return None


def policy_file(folder: Path) -> File:
    """A policy."""
    return File(folder, lambda file: policy.load([file], KEYS, LOOKUPS))


def settings_file(folder: Path) -> File:
    """The service's settings."""
    return File(folder, settings.load)


def manifests(folder: Path) -> File:
    """RBAC manifests: nobody who is named nowhere in them gets a right by them."""

    def load(file: Path) -> None:
        store = rbac.load([file])
        stranger = Subject("a stranger whom no manifest names")
        review = rbac.RbacAuthorizer(store).review(stranger, ResourceAttributes("get", resource="secrets"))
        assert not review.allowed

    return File(folder, load)
