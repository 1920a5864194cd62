"""The fuzz target that reads a line of the audit log, as `extauthz diff` does."""

from __future__ import annotations

from pathlib import Path

from extauthz.replay import Comparison, Judge, Recorded, Unreadable, read
from extauthz.replay.record import recorded
from tests.cases import policy_of
from tests.security.oracle import RULES, Asked, needed, right_of


class Record:
    """A line is read or refused, never both; what it allows again, its own user and reviews allow."""

    def __init__(self, folder: Path) -> None:
        self._judge = Judge(policy_of(folder, RULES))

    def __call__(self, data: bytes) -> None:
        comparison = Comparison(self._judge, self._judge)
        list(comparison.add([data]))
        assert comparison.lines + comparison.unreadable_lines == (not data.isspace())
        try:
            told = recorded(read(data))
        except Unreadable:
            return
        if told is not None and self._judge.decide(told).allowed:
            assert _may_pass(told), told


def _may_pass(told: Recorded) -> bool:
    request, subject = told.request, told.subject
    path, _, query = request.target.partition("?")
    rights = needed(Asked(subject.user if subject else "", request.method, path, query, request.body))
    if isinstance(rights, str):
        return rights == "everybody" or subject is not None
    granted = {right_of(attributes) for attributes, allowed in told.reviews.items() if allowed}
    return rights is not None and subject is not None and set(rights) <= granted
