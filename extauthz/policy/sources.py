"""Where values come from: one syntax for every value that a rule reads from a request.

A source yields text, or None where the request does not have it (an empty value counts as
absent, as it does in protobuf JSON). Anything that could be read in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

from extauthz.document import near
from extauthz.errors import Refused
from extauthz.policy import body
from extauthz.policy.template import Mistake, Template
from extauthz.request import Fault, Request, camel_case, refusal
from extauthz.subject import Subject

KeyReaders = Mapping[str, Callable[[str], str | None]]
"""For each kind of key, the function that reads the owning namespace from it."""

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_POINTER = re.compile(r"(/([^/~]|~[01])+)+")
_UNSET = object()


@dataclass(slots=True)
class Reading:
    """One request while its rule reads it: the body is parsed at most once."""

    request: Request
    subject: Subject | None
    template: Template
    _document: Any = field(default=_UNSET)

    @property
    def document(self) -> Any:
        """The JSON body. Raises Refused unless it is whole and reads in one way only."""
        if self._document is _UNSET:
            self._document = body.document(self.request)
        return self._document


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
        segments = reading.request.segments
        if self.tail:
            return "/".join(map(_decoded, segments[self.start :])) or None
        return _decoded(segments[self.start].removesuffix(self.suffix))


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A query parameter, in snake_case or camelCase.

    Other spellings that some server takes for the same parameter are refused: `namespace[]`
    (Express, grpc-gateway) and, in the name of a nested field, one part each way.
    """

    name: str

    def read(self, reading: Reading) -> str | None:
        for name in reading.request.parameters:
            if not name.isalnum() and name != self.name and self._reads_like(name):
                raise Refused(Fault.QUERY_SPELLING, f"The query spells {self.name!r} in an unexpected way.")
        return reading.request.parameter(self.name) or None

    def _reads_like(self, name: str) -> bool:
        base = name.partition("[")[0]
        return name != (wanted := camel_case(self.name)) and camel_case(base) == wanted


@dataclass(frozen=True, slots=True)
class Header:
    """A request header. Two values, or bytes that Envoy could not show, are refused."""

    name: str

    def read(self, reading: Reading) -> str | None:
        headers = reading.request.headers
        value = headers.get(self.name, "")
        # Envoy joins duplicates with a comma and shows bytes that are not UTF-8 as "!".
        # CGI-like servers read an underscore as a hyphen.
        if "," in value or "!" in value or ("-" in self.name and self.name.replace("-", "_") in headers):
            raise Refused("header_ambiguous", f"The header {self.name!r} cannot be read in one way only.")
        return value.strip(" ") or None


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the verified token. Claims that are not text count as a refusal."""

    name: str

    def read(self, reading: Reading) -> str | None:
        value = reading.subject.claims.get(self.name) if reading.subject else None
        if value is not None and not isinstance(value, str):
            raise Refused("claim_not_text", f"The claim {self.name!r} of the token is not text.", status=403)
        return value or None


@dataclass(frozen=True, slots=True)
class BodyPointer:
    """A member of the JSON body by its pointer (RFC 6901), in snake_case or camelCase."""

    tokens: tuple[str, ...]

    def read(self, reading: Reading) -> str | None:
        value = reading.document
        for token in self.tokens:
            if value is None:
                return None
            value = body.member(value, token)
        if value is not None and not isinstance(value, str):
            raise Refused("body_value_not_text", f"The body's {self} is not text.")
        return value or None

    def __str__(self) -> str:
        return "/" + "/".join(self.tokens)


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


def parse(text: str, template: Template, keys: KeyReaders) -> Source:
    """Parse a source. Raises Mistake."""
    kind, colon, rest = text.partition(":")
    if not colon:
        return Literal(text)
    if kind == "lookup":
        raise Mistake("lookup: sources are not available in this version")
    builder = _BUILDERS.get(kind)
    if builder is None:
        raise Mistake(
            f"unknown source {kind!r}", near(kind, _BUILDERS) or f"the sources are {', '.join(sorted(_BUILDERS))}"
        )
    return builder(rest, template, keys)


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise refusal(Fault.INVALID_UTF8) from None


def _path(name: str, template: Template, keys: KeyReaders) -> Source:
    index = template.variables.get(name)
    if index is None:
        raise Mistake(f"the path {template.text} has no variable {name!r}", near(name, template.variables))
    segment = template.segments[index]
    return PathVariable(index, segment.suffix, segment.tail)


def _body(pointer: str, template: Template, keys: KeyReaders) -> Source:
    if _POINTER.fullmatch(pointer) is None:
        raise Mistake(f"body pointer {pointer!r} must name a member", "such as body:/namespace")
    return BodyPointer(tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")))


def _key(text: str, template: Template, keys: KeyReaders) -> Source:
    kind, _, inner = text.partition(":")
    if kind not in keys:
        raise Mistake(f"unknown kind of key {kind!r}", near(kind, keys) or f"the kinds are {', '.join(sorted(keys))}")
    if ":" not in inner:
        raise Mistake(f"key:{kind} needs the source of the key", f"such as key:{kind}:query:key")
    return KeyOwner(kind, parse(inner, template, keys), keys[kind])


def _named(make: Callable[[str], Source]) -> Callable[[str, Template, KeyReaders], Source]:
    def build(name: str, template: Template, keys: KeyReaders) -> Source:
        if _NAME.fullmatch(name) is None:
            raise Mistake(f"{name!r} is not a name")
        return make(name)

    return build


_BUILDERS: Mapping[str, Callable[[str, Template, KeyReaders], Source]] = {
    "path": _path,
    "query": _named(QueryParameter),
    "header": _named(lambda name: Header(name.lower())),
    "claim": _named(Claim),
    "body": _body,
    "key": _key,
}
