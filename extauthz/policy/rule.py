"""One compiled rule: which requests it decides, and the attributes it puts up for review."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from extauthz.decision import RuleRef
from extauthz.errors import Refused
from extauthz.policy.sources import Literal, Reading, Source
from extauthz.policy.template import Template
from extauthz.request import TOLERABLE, WHOLE_REQUEST, Fault, Request
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject

MAX_VALUE_LENGTH = 1024

NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
"""The names that Kubernetes gives to namespaces (RFC 1123 labels)."""

PATH_TOLERABLE = TOLERABLE - {Fault.QUERY_DUPLICATE, Fault.QUERY_SPELLING, Fault.QUERY_SEMICOLON, Fault.FORM_BODY}
"""The faults that stand in a segment of the path."""

REFUSE = "refuse"
ALL_NAMESPACES = "all-namespaces"


class Answer(StrEnum):
    """The four kinds of rules."""

    PUBLIC = "public"
    AUTHENTICATED = "authenticated"
    ACCESS = "access"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Bound:
    """A source as it stands in the policy."""

    text: str
    source: Source
    optional: bool = False

    def value(self, reading: Reading) -> str | None:
        """Return the value, checked to be safe as an attribute, or None where it is absent. Raises Refused."""
        value = self.source.read(reading)
        if value is not None and not isinstance(self.source, Literal):
            _check(value, self.text)
        return value


@dataclass(frozen=True, slots=True)
class Resource:
    """A check of a right on an API resource."""

    verb: Bound
    group: str
    version: str
    resource: Bound
    subresource: str
    namespace: tuple[Bound, ...]
    absent_namespace: str
    name: Bound | None

    def attributes(self, reading: Reading) -> Attributes:
        """Read the attributes from a request. Raises Refused."""
        return ResourceAttributes(
            verb=_required(self.verb, reading),
            group=self.group,
            version=self.version,
            resource=_required(self.resource, reading),
            subresource=self.subresource,
            namespace=self._namespace(reading) if self.namespace else "",
            name=_optional(self.name, reading),
        )

    def bounds(self) -> list[tuple[str, Bound]]:
        """Return the sources by the attribute they fill."""
        named = [("verb", self.verb), ("resource", self.resource), *(("namespace", bound) for bound in self.namespace)]
        return [*named, ("name", self.name)] if self.name else named

    def _namespace(self, reading: Reading) -> str:
        found: dict[str, str] = {}
        absent: Bound | None = None
        for bound in self.namespace:
            value = bound.value(reading)
            if value is not None:
                if NAMESPACE.fullmatch(value) is None:
                    raise Refused("namespace_invalid", f"{bound.text} is not the name of a namespace.")
                found[value] = bound.text
            elif not bound.optional:
                absent = absent or bound
        if len(found) > 1:
            places = " and ".join(found.values())
            raise Refused("namespaces_differ", f"The request names different namespaces in {places}.", status=403)
        if found and absent is None:
            return next(iter(found))
        if found or self.absent_namespace == REFUSE:
            missing = absent or self.namespace[0]
            raise Refused("namespace_missing", f"The request must name a namespace in {missing.text}.")
        return "" if self.absent_namespace == ALL_NAMESPACES else self.absent_namespace


@dataclass(frozen=True, slots=True)
class NonResource:
    """A check of a right on a URL path."""

    verb: Bound
    path: Bound

    def attributes(self, reading: Reading) -> Attributes:
        """Read the attributes from a request. Raises Refused."""
        return NonResourceAttributes(verb=_required(self.verb, reading), path=_required(self.path, reading))

    def bounds(self) -> list[tuple[str, Bound]]:
        """Return the sources by the attribute they fill."""
        return [("verb", self.verb), ("path", self.path)]


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A rule, ready to decide."""

    ref: RuleRef
    template: Template
    answer: Answer
    methods: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    checks: tuple[Resource | NonResource, ...] = ()
    forbidden: tuple[Bound, ...] = ()
    tolerated: frozenset[Fault] = frozenset()
    message: str = ""
    shadow: bool = False

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

    def attributes(self, request: Request, subject: Subject | None) -> tuple[Attributes, ...]:
        """Read what must be reviewed, after what must be absent. Raises Refused."""
        reading = Reading(request, subject, self.template)
        for bound in self.forbidden:
            if bound.source.read(reading) is not None:
                raise Refused("forbidden_value", f"The request must not set {bound.text}.", status=403)
        return tuple(check.attributes(reading) for check in self.checks)

    def values(self, request: Request, subject: Subject | None) -> list[dict[str, str | None]]:
        """Return every source and what it reads, for `extauthz check`; a refused source reads as absent."""
        reading = Reading(request, subject, self.template)
        return [
            {"attribute": attribute, "source": bound.text, "value": _explained(bound, reading)}
            for check in self.checks
            for attribute, bound in check.bounds()
        ]


def _explained(bound: Bound, reading: Reading) -> str | None:
    try:
        return bound.value(reading)
    except Refused:
        return None


def _required(bound: Bound, reading: Reading) -> str:
    value = bound.value(reading)
    if value is None:
        raise Refused("value_missing", f"The request must give a value in {bound.text}.")
    return value


def _optional(bound: Bound | None, reading: Reading) -> str:
    if bound is None:
        return ""
    value = bound.value(reading)
    if value is None and not bound.optional:
        raise Refused("value_missing", f"The request must give a value in {bound.text}.")
    return value or ""


def _check(value: str, text: str) -> None:
    """Refuse what a review or a log could read as more than a plain value."""
    if len(value) > MAX_VALUE_LENGTH:
        raise Refused("value_too_long", f"{text} is longer than {MAX_VALUE_LENGTH} characters.")
    # "*" would ask for a right on everything; surrogates and control characters have no one spelling.
    if "*" in value or not (value.isprintable() or value.replace("\u00a0", " ").isprintable()):
        raise Refused("value_invalid", f"{text} holds a character that has no place in an attribute.")
