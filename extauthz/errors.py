"""Every error of our own, and what each one becomes.

ExtauthzError
├── ConfigurationError   a file cannot be used: exit code 2, or the last good one keeps serving
├── Refused              the request cannot be read the way its rule needs: 400 or 403
├── CredentialError      a credential was recognised but is not valid: 401
└── Unavailable          something we depend on did not answer: 503, never an allow

`decision.failed` turns the last three into decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class ExtauthzError(Exception):
    """Base of all errors raised on purpose by this package."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file, and how to mend it.

    `line` and `column` count from 1; 0 means that no position is known.
    """

    message: str
    file: Path | None = None
    line: int = 0
    column: int = 0
    hint: str = ""

    def __str__(self) -> str:
        place = str(self.file) if self.file else ""
        if self.line:
            place += f":{self.line}:{self.column}"
        text = f"{place}: {self.message}" if place else self.message
        return f"{text} (hint: {self.hint})" if self.hint else text


class ConfigurationError(ExtauthzError):
    """A settings, policy or manifest file cannot be used."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class Refused(ExtauthzError):
    """The request cannot be read the way its rule needs."""

    def __init__(self, reason: str, message: str, *, status: int = 400) -> None:
        self.reason = reason
        self.message = message
        self.status = status
        super().__init__(f"{reason}: {message}")


class CredentialError(ExtauthzError):
    """A credential was recognised but is not valid.

    `message` is shown to the caller, so it never repeats the credential. `login` is where a
    browser can log in, where that would help: a path of the same host.
    """

    def __init__(self, reason: str, message: str, *, login: str = "") -> None:
        self.reason = reason
        self.message = message
        self.login = login
        super().__init__(f"{reason}: {message}")


class Unavailable(ExtauthzError):
    """Something that the decision depends on did not answer.

    `retry_after` is in seconds.
    """

    def __init__(self, reason: str, message: str, *, retry_after: int = 1) -> None:
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{reason}: {message}")
