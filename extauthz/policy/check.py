"""One right that a rule asks for: how its attributes are read from a request."""

from __future__ import annotations

import re
from dataclasses import dataclass

from extauthz.errors import Refused
from extauthz.policy.sources import Literal, LookedUp, NoSuchObject, Reading, Source, Waiting
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes

MAX_VALUE_LENGTH = 1024

NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
"""The names that Kubernetes gives to namespaces (RFC 1123 labels)."""

REFUSE = "refuse"
ALL_NAMESPACES = "all-namespaces"
AUTHENTICATED = "authenticated"
SHARED = "shared-objects"

UNSCOPED_LIST = "unscoped_list"
"""The kind of a lookup that tells by a resource's name to whom a list without a namespace belongs."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A source as it stands in the policy."""

    text: str
    source: Source
    optional: bool = False

    def value(self, reading: Reading) -> str | None:
        """Return the value, checked to be safe as an attribute, or None where it is absent. Raises Refused."""
        value = self.source.read(reading)
        if isinstance(self.source, LookedUp):
            # Another user chose the object's name: one that is unfit asks for the right on all names.
            return "" if value and _unfit(value) else value
        if value is not None and not isinstance(self.source, Literal):
            _check(value, self.text)
        return value


@dataclass(frozen=True, slots=True)
class When:
    """The condition under which a right is asked for."""

    present: Bound | None = None
    absent: Bound | None = None
    unless: frozenset[str] = frozenset()

    def holds(self, reading: Reading) -> bool:
        """Whether the right is asked for. Raises Refused."""
        if self.present is not None:
            value = self.present.value(reading)
            if value is None or value in self.unless:
                return False
        return self.absent is None or self.absent.value(reading) is None

    def bounds(self) -> list[tuple[str, Bound]]:
        """Return the sources by the field they stand in."""
        named = (("ifPresent", self.present), ("ifAbsent", self.absent))
        return [(field, bound) for field, bound in named if bound]


@dataclass(frozen=True, slots=True)
class Asked:
    """One right that a request needs.

    `hidden` tells that its namespace is a secret of the object that the request names, so
    that no answer may depend on it. `verdict` is set where nobody has to be asked, and
    `why` then says it for the log.
    """

    attributes: Attributes
    hidden: bool = False
    verdict: bool | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    """The namespace of a review; an open one is readable by everybody who is logged in, a hidden one is looked up."""

    namespace: str
    open: bool = False
    hidden: bool = False


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
    shared_namespace: str
    name: Bound | None
    when: When

    def asked(self, reading: Reading) -> Asked:
        """Read what is asked for from a request. Raises Refused, Unavailable, Waiting.

        What is wrong with the request itself is told before anything that depends on a
        lookup, so that the answers for known and unknown objects differ in nothing.
        """
        verb, resource = _required(self.verb, reading), _required(self.resource, reading)
        looked_up = self.name is not None and isinstance(self.name.source, LookedUp)
        name = "" if looked_up else _optional(self.name, reading)
        try:
            place = self._place(reading, resource) if self.namespace else _Place("")
            name = _optional(self.name, reading) if looked_up else name
        except NoSuchObject:
            return Asked(self._attributes(verb, resource), hidden=True, verdict=False, why="no such object")
        attributes = self._attributes(verb, resource, place.namespace, name)
        if place.open:
            return Asked(attributes, place.hidden, verdict=True, why="open to everybody who is logged in")
        return Asked(attributes, place.hidden)

    def _attributes(self, verb: str, resource: str, namespace: str = "", name: str = "") -> ResourceAttributes:
        return ResourceAttributes(verb, self.group, self.version, resource, self.subresource, namespace, name)

    def bounds(self) -> list[tuple[str, Bound]]:
        """Return the sources by the attribute they fill."""
        named = [("verb", self.verb), ("resource", self.resource), *(("namespace", bound) for bound in self.namespace)]
        named = [*named, ("name", self.name)] if self.name else named
        return [*named, *self.when.bounds()]

    def _place(self, reading: Reading, resource: str) -> _Place:
        found: dict[str, str] = {}
        absent: Bound | None = None
        unknown: Waiting | NoSuchObject | None = None
        hidden = False
        for bound in self.namespace:
            try:
                value = bound.value(reading)
            except (Waiting, NoSuchObject) as raised:
                unknown = raised if unknown is None or isinstance(raised, Waiting) else unknown
                continue
            if value is not None:
                found[_namespace(bound, value)] = bound.text
                hidden = hidden or isinstance(bound.source, LookedUp)
            elif not bound.optional:
                absent = absent or bound
        if not found and unknown is None and self._means_something(reading, resource):
            return _meant(self.shared_namespace if self.absent_namespace == SHARED else self.absent_namespace)
        if absent or not (found or unknown):
            missing = absent or self.namespace[0]
            raise Refused("namespace_missing", f"The request must name a namespace in {missing.text}.")
        if unknown:
            raise unknown
        return self._agreed(found, hidden)

    def _means_something(self, reading: Reading, resource: str) -> bool:
        """Whether the policy says what no namespace means. Raises Waiting, Unavailable."""
        if self.absent_namespace != SHARED:
            return self.absent_namespace != REFUSE
        told = reading.look_up(UNSCOPED_LIST, resource)
        return told is not None and not told.namespace

    def _agreed(self, found: dict[str, str], hidden: bool) -> _Place:
        if len(found) > 1 and hidden:
            raise NoSuchObject
        if len(found) > 1:
            places = " and ".join(found.values())
            raise Refused("namespaces_differ", f"The request names different namespaces in {places}.", status=403)
        (namespace,) = found
        if namespace:
            return _Place(namespace, hidden=hidden)
        if self.shared_namespace == REFUSE:
            raise NoSuchObject
        return _meant(self.shared_namespace, hidden=True)


@dataclass(frozen=True, slots=True)
class NonResource:
    """A check of a right on a URL path."""

    verb: Bound
    path: Bound
    when: When

    def asked(self, reading: Reading) -> Asked:
        """Read what is asked for from a request. Raises Refused."""
        return Asked(NonResourceAttributes(verb=_required(self.verb, reading), path=_required(self.path, reading)))

    def bounds(self) -> list[tuple[str, Bound]]:
        """Return the sources by the attribute they fill."""
        return [("verb", self.verb), ("path", self.path), *self.when.bounds()]


def _namespace(bound: Bound, value: str) -> str:
    """Return a namespace that can be one; a looked-up one is empty for what is shared."""
    if NAMESPACE.fullmatch(value) is None and not (value == "" and isinstance(bound.source, LookedUp)):
        raise Refused("namespace_invalid", f"{bound.text} is not the name of a namespace.")
    return value


def _meant(word: str, *, hidden: bool = False) -> _Place:
    """Return what the policy says in place of a namespace; no request can say these words."""
    return _Place("" if word in (ALL_NAMESPACES, AUTHENTICATED) else word, open=word == AUTHENTICATED, hidden=hidden)


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
    if _unfit(value):
        raise Refused("value_invalid", f"{text} holds a character that has no place in an attribute.")


def _unfit(value: str) -> bool:
    # "*" would ask for a right on everything; surrogates and control characters have no one spelling.
    strange = "*" in value or not (value.isprintable() or value.replace("\u00a0", " ").isprintable())
    return strange or len(value) > MAX_VALUE_LENGTH
