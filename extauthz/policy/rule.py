"""One compiled rule: which requests it decides, what it puts up for review, and what it keeps from the upstream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from extauthz.decision import RuleRef
from extauthz.errors import ExtauthzError, Refused, Unavailable
from extauthz.found import Found
from extauthz.policy.check import Asked, Bound, NonResource, Resource
from extauthz.policy.sources import Literal, LookUp, Reading, Waiting
from extauthz.policy.template import Template
from extauthz.request import Request
from extauthz.request.faults import TOLERABLE, WHOLE_REQUEST, Fault
from extauthz.subject import Subject

if TYPE_CHECKING:
    from extauthz.policy.condition import Condition

PATH_TOLERABLE = TOLERABLE - {Fault.QUERY_DUPLICATE, Fault.QUERY_SPELLING, Fault.QUERY_SEMICOLON, Fault.FORM_BODY}
"""The faults that stand in a segment of the path."""

_TOLD_BY_TARGET = ("path:", "query:", "host:")

Headers = tuple[tuple[str, str], ...]


class Answer(StrEnum):
    """The four kinds of rules."""

    PUBLIC = "public"
    AUTHENTICATED = "authenticated"
    ACCESS = "access"
    DENY = "deny"


class Pattern(Protocol):
    """A regular expression that matches in linear time, so that no request can make it slow."""

    def fullmatch(self, text: str) -> object | None:
        """Return something where the whole text matches."""
        ...


@dataclass(frozen=True, slots=True)
class Requirement:
    """A value that decides nothing, but of which only some are served."""

    bound: Bound
    one_of: frozenset[str] = frozenset()
    pattern: Pattern | None = None

    def check(self, reading: Reading) -> None:
        """Refuse a request whose value is another. Raises Refused."""
        value = self.bound.value(reading)
        if value is None and self.bound.optional:
            return
        if value is None:
            raise Refused("value_missing", f"The request must give a value in {self.bound.text}.")
        if value not in self.one_of if self.pattern is None else self.pattern.fullmatch(value) is None:
            raise Refused("value_not_served", f"The value of {self.bound.text} is not one that is served.", status=403)


@dataclass(frozen=True, slots=True)
class Withheld:
    """What the client sent and the upstream must not see: whole headers, and cookies by the start of their name."""

    headers: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()

    def joined(self, other: Withheld | None) -> Withheld:
        """Return what either keeps from the upstream."""
        return Withheld(self.headers + other.headers, self.cookies + other.cookies) if other else self

    def of(self, request: Request) -> tuple[Headers, tuple[str, ...]]:
        """Return the headers to set and those to remove."""
        crumbs = request.headers.get("cookie", "").split(";") if self.cookies else []
        kept = [crumb for crumb in crumbs if not self._names(crumb)]
        if len(kept) == len(crumbs):
            return (), self.headers
        rest = ";".join(kept).strip()
        return ((("cookie", rest),), self.headers) if rest else ((), (*self.headers, "cookie"))

    def _names(self, crumb: str) -> bool:
        # Envoy joins header lines with a comma, and servers differ on whether one ends a cookie.
        return any(part.strip().startswith(self.cookies) for part in crumb.split(","))


def nobody(kind: str, identifier: str) -> Found | None:
    """Be the lookup where there is none. Raises Unavailable."""
    raise Unavailable("lookup_missing", "The owner of an object could not be found out: nobody can be asked.")


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A rule, ready to decide. With `user_only`, reviews leave out the caller's groups, uid and extra."""

    ref: RuleRef
    template: Template
    answer: Answer
    methods: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    checks: tuple[Resource | NonResource, ...] = ()
    forbidden: tuple[Bound, ...] = ()
    required: tuple[Requirement, ...] = ()
    tolerated: frozenset[Fault] = frozenset()
    message: str = ""
    shadow: bool = False
    user_only: bool = False
    withheld: Withheld | None = None
    condition: Condition | None = None
    """What must be true as well; None costs nothing, not even the library that evaluates it."""

    @property
    def tolerates_paths(self) -> bool:
        """Whether requests pass whose path can be read in several ways."""
        return not PATH_TOLERABLE.isdisjoint(self.tolerated)

    def fault(self, request: Request) -> Fault | None:
        """Return the first fault of the request that this rule does not tolerate."""
        tail = self.template.tail
        for fault, place in request.faults:
            below = place == WHOLE_REQUEST or (tail is not None and place >= tail)
            if not below or fault not in self.tolerated:
                return fault
        return None

    def asked(self, request: Request, subject: Subject | None, lookup: LookUp = nobody) -> tuple[Asked, ...]:
        """Read which rights are needed, after what must and must not be there. Raises Refused, Unavailable, Waiting.

        Waiting comes only after every check was read, so that all lookups are under way.
        """
        return self.asked_by(Reading(request, subject, lookup))

    def asked_by(self, reading: Reading) -> tuple[Asked, ...]:
        """Do what `asked` does for a reading that was begun."""
        for bound in self.forbidden:
            if bound.source.read(reading) is not None:
                raise Refused("forbidden_value", f"The request must not set {bound.text}.", status=403)
        for requirement in self.required:
            requirement.check(reading)
        asked: list[Asked] = []
        waiting: Waiting | None = None
        for check in self.checks:
            if check.when.holds(reading):
                try:
                    asked.append(check.asked(reading))
                except Waiting as signal:
                    waiting = signal
        if waiting:
            raise waiting
        return tuple(asked)

    def permits(self, request: Request, subject: Subject | None) -> bool:
        """Whether the rule's condition is true, if it has one. Raises Refused where it cannot be evaluated."""
        return self.condition is None or self.condition.holds(Reading(request, subject, nobody))

    def values(self, request: Request, subject: Subject | None, lookup: LookUp = nobody) -> list[dict[str, str | None]]:
        """Return what each source reads, literals apart, for `extauthz check`; a refused one reads as absent."""
        reading = Reading(request, subject, lookup)
        found = [
            {"attribute": attribute, "source": bound.text, "value": _explained(bound.value, reading)}
            for check in self.checks
            for attribute, bound in check.bounds()
            if not isinstance(bound.source, Literal)
        ]
        conditional = self.condition.reads() if self.condition else ()
        return found + [
            {"attribute": "when", "source": text, "value": _explained(read, reading)} for text, read in conditional
        ]

    def beside_target(self, request: Request, subject: Subject | None, lookup: LookUp) -> dict[str, str | None]:
        """Return what the sources read that method, host and target do not tell; what cannot be read is left out."""
        reading = Reading(request, subject, lookup)
        found: dict[str, str | None] = {}
        for text, read in self.reads():
            if not text.startswith(_TOLD_BY_TARGET):
                with contextlib.suppress(ExtauthzError, Waiting):
                    found[text] = read(reading)
        return found

    def reads(self) -> Iterator[tuple[str, Callable[[Reading], str | None]]]:
        """Yield every source of the rule, without its question mark, and what reads it."""
        yield from ((bound.text.removesuffix("?"), bound.value) for bound in self.bounds())
        yield from self.condition.reads() if self.condition else ()

    def bounds(self) -> Iterator[Bound]:
        """Yield every source of the rule, those of its condition and literals apart."""
        bounds = [*self.forbidden, *(requirement.bound for requirement in self.required)]
        bounds += (bound for check in self.checks for _, bound in check.bounds())
        return (bound for bound in bounds if not isinstance(bound.source, Literal))


def _explained(read: Callable[[Reading], str | None], reading: Reading) -> str | None:
    try:
        return read(reading)
    except (ExtauthzError, Waiting):
        return None
