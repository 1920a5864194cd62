"""Where values come from: one syntax for every value that a rule reads from a request.

A source yields text, or None where the request does not have it (an empty value counts as
absent, as it does in protobuf JSON). Anything that could be read in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from extauthz.errors import Refused
from extauthz.found import Found
from extauthz.policy import body, selection
from extauthz.policy.hosts import HostPattern
from extauthz.policy.selection import Condition, Step
from extauthz.request import Request
from extauthz.request.faults import Fault, refusal
from extauthz.request.spelling import camel_case, header_spellings
from extauthz.subject import Subject

LookUp = Callable[[str, str], Found | None]
"""Tells what is known of an object by its kind and id; None where there is none. Raises Waiting, Unavailable."""

_UNSET = object()
_BRACKETS = re.compile(r"[\[\]]")


class Waiting(Exception):
    """A lookup has no answer yet. Whoever handed in the lookup knows which; the rule is then read again."""


class NoSuchObject(Refused):
    """There is no such object, or it must look so."""

    def __init__(self) -> None:
        super().__init__("forbidden", "There is no such object, or you have no right to it.", status=403)


class Reading:
    """One request while its rule reads it.

    `beyond_target` tells whether anything but path and query was looked at, so that what
    was read may differ for the next request to the same target.
    """

    __slots__ = ("_document", "_lookup", "_request", "_subject", "beyond_target")

    def __init__(self, request: Request, subject: Subject | None, lookup: LookUp) -> None:
        self._request = request
        self._subject = subject
        self._lookup = lookup
        self._document: Any = _UNSET
        self.beyond_target = False

    @property
    def method(self) -> str:
        """The request's method."""
        self.beyond_target = True
        return self._request.method

    @property
    def path(self) -> str:
        """The raw path."""
        return self._request.path

    @property
    def segments(self) -> tuple[str, ...]:
        """The raw segments of the path."""
        return self._request.segments

    @property
    def parameters(self) -> Mapping[str, str]:
        """The decoded query parameters."""
        return self._request.parameters

    def parameter(self, name: str) -> str | None:
        """Return a query parameter, see `Request.parameter`. Raises Refused."""
        return self._request.parameter(name)

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        self.beyond_target = True
        return self._request.headers

    @property
    def host(self) -> str:
        """The host as the client sent it."""
        self.beyond_target = True
        return self._request.host

    @property
    def subject(self) -> Subject | None:
        """Who asks, where that has been asked for."""
        self.beyond_target = True
        return self._subject

    @property
    def claims(self) -> Mapping[str, Any]:
        """The claims of the verified token; empty where there is none."""
        self.beyond_target = True
        return self._subject.claims if self._subject else {}

    @property
    def document(self) -> Any:
        """The JSON body, parsed once. Raises Refused unless it is whole and reads in one way only."""
        self.beyond_target = True
        if self._document is _UNSET:
            self._document = body.document(self._request)
        return self._document

    def look_up(self, kind: str, identifier: str) -> Found | None:
        """Return what is known of an object; None where there is none. Raises Waiting, Unavailable."""
        self.beyond_target = True
        return self._lookup(kind, identifier)


class Source(Protocol):
    """Reads one value from a request."""

    def read(self, reading: Reading) -> str | None:
        """Return the value, or None where it is absent or empty. Raises Refused."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A fixed value."""

    value: str

    def read(self, reading: Reading) -> str | None:
        return self.value


@dataclass(frozen=True, slots=True)
class PathVariable:
    """A variable of the path template, decoded once."""

    start: int
    suffix: str
    tail: bool

    def read(self, reading: Reading) -> str | None:
        segments = reading.segments
        if self.tail:
            return "/".join(map(_decoded, segments[self.start :])) or None
        return _decoded(segments[self.start].removesuffix(self.suffix))


@dataclass(frozen=True, slots=True)
class HostLabel:
    """A label of the host that the rule's host pattern names."""

    pattern: HostPattern
    index: int

    def read(self, reading: Reading) -> str | None:
        return self.pattern.label(reading.host, self.index)


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A query parameter, in snake_case or camelCase.

    Other spellings that some server takes for the same parameter are refused: `namespace[]`
    and `[namespace]` (Express, grpc-gateway) and, in the name of a nested field, one part each way.
    """

    name: str
    conditions: tuple[Condition, ...] = ()
    """Parameters that say what this one means; it counts as absent unless all hold."""

    def read(self, reading: Reading) -> str | None:
        value = self._read(reading)
        holds = [condition.holds(QueryParameter(condition.name).read(reading)) for condition in self.conditions]
        return value if all(holds) else None

    def _read(self, reading: Reading) -> str | None:
        for name in reading.parameters:
            if not name.isalnum() and name != self.name and self._reads_like(name):
                raise Refused(Fault.QUERY_SPELLING, f"The query spells {self.name!r} in an unexpected way.")
        return reading.parameter(self.name) or None

    def _reads_like(self, name: str) -> bool:
        wanted = camel_case(self.name)
        return name != wanted and any(camel_case(part) == wanted for part in _BRACKETS.split(name))


@dataclass(frozen=True, slots=True)
class Header:
    """A request header. Two values, or bytes that Envoy could not show, are refused."""

    name: str

    def read(self, reading: Reading) -> str | None:
        headers = reading.headers
        value = headers.get(self.name, "")
        # Envoy joins duplicates with a comma and shows bytes that are not UTF-8 as "!".
        # CGI-like servers read an underscore as a hyphen.
        if "," in value or "!" in value or any(twin in headers for twin in header_spellings(self.name)[1:]):
            raise Refused("header_ambiguous", f"The header {self.name!r} cannot be read in one way only.")
        return value.strip(" ") or None


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the verified token. Claims that are not text count as a refusal."""

    name: str

    def read(self, reading: Reading) -> str | None:
        value = reading.claims.get(self.name)
        if value is not None and not isinstance(value, str):
            raise Refused("claim_not_text", f"The claim {self.name!r} of the token is not text.", status=403)
        return value or None


@dataclass(frozen=True, slots=True)
class BodyPointer:
    """A member of the JSON body by its pointer (RFC 6901), in snake_case or camelCase.

    Where it leads through the elements of a list, all of them must say the same.
    """

    text: str
    steps: tuple[Step, ...]

    def read(self, reading: Reading) -> str | None:
        values = set(selection.values(reading.document, self.steps, self._leaf))
        if len(values) > 1:
            raise Refused("body_ambiguous", f"The body has several values in {self.text}.")
        return next(iter(values), None)

    def _leaf(self, value: Any) -> str | None:
        if value is not None and not isinstance(value, str):
            raise Refused("body_value_not_text", f"The body's {self.text} is not text.")
        return value or None


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """The namespace that an object key belongs to."""

    kind: str
    inner: Source
    owner: Callable[[str], str | None]

    def read(self, reading: Reading) -> str | None:
        key = self.inner.read(reading)
        if key is None:
            return None
        namespace = self.owner(key)
        if namespace is None:
            raise Refused("key_owner_unknown", f"The {self.kind} key does not tell to whom it belongs.", status=403)
        return namespace


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The namespace of an object that the request names by its id, or with `named` its name.

    Empty where the object is shared by all, or has no known name.
    """

    kind: str
    named: bool
    inner: Source

    def read(self, reading: Reading) -> str | None:
        identifier = self.inner.read(reading)
        if identifier is None:
            return None
        found = reading.look_up(self.kind, identifier)
        if found is None:
            raise NoSuchObject
        return found.name if self.named else found.namespace


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise refusal(Fault.INVALID_UTF8) from None
