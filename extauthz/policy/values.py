"""What differs from one installation to the next: texts and lists that policy files name, and that settings replace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from extauthz.document import Document, near
from extauthz.errors import Problem

Values = Mapping[str, str | list[str]]
"""By name."""

NO_VALUES: Values = {}


def mismatches(part: Document, named: Values, given: Values) -> Iterator[Problem]:
    """Find values of a document that the settings give as a text instead of a list, or the other way round."""
    for name, default in named.items():
        if name in given and isinstance(given[name], list) != isinstance(default, list):
            here, there = ("a list", "a text") if isinstance(default, list) else ("a text", "a list")
            yield part.problem(("values", name), f"values.{name}: is {here} here, and {there} in the settings")


class NamedValues:
    """The values of all files: one name means the same in all of them, and the settings give no other."""

    def __init__(self, given: Values) -> None:
        self._given = given
        self._named: dict[str, tuple[str | list[str], Path]] = {}

    def add(self, part: Document, values: Values) -> Iterator[Problem]:
        """Take those of one document."""
        for name, value in values.items():
            first, file = self._named.setdefault(name, (value, part.file))
            if first != value:
                message = f"values.{name}: is {value!r} here, and {first!r} in {file}"
                yield part.problem(("values", name), message, "say the same in both")

    def unknown(self, path: Path | None) -> Iterator[Problem]:
        """Find values of the settings that no file asks for."""
        for name in self._given:
            if name not in self._named:
                known = ", ".join(sorted(self._named)) or "none"
                hint = near(name, self._named) or f"the files' values are {known}"
                yield Problem(f"no policy file has the value {name!r} that the settings give", path, hint=hint)
