"""How sources are written: from the text in a policy to the reader of a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from extauthz.document import near
from extauthz.policy import selection
from extauthz.policy.sources import (
    BodyPointer,
    Claim,
    Header,
    HostLabel,
    KeyOwner,
    Literal,
    LookedUp,
    PathVariable,
    QueryParameter,
    Source,
)
from extauthz.policy.template import Mistake, Template
from extauthz.policy.values import NO_VALUES, Values

KeyReaders = Mapping[str, Callable[[str], str | None]]
"""For each kind of key, the function that reads the owning namespace from it."""

VALUE = "value:"


_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_SELECTED = re.compile(r"([^{}]+)\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Known:
    """What sources may refer to: the kinds of keys, and of objects that can be looked up, and values by name."""

    keys: KeyReaders
    lookups: Collection[str] = ()
    values: Values = field(default_factory=lambda: NO_VALUES)

    def value(self, name: str) -> str | list[str]:
        """Return a value. Raises Mistake."""
        if name not in self.values:
            raise Mistake(f"the file has no value {name!r}", near(name, self.values) or "name it under values")
        return self.values[name]


def text(written: str, known: Known) -> str:
    """Return a text, or the one that `value:NAME` stands for. Raises Mistake."""
    found = known.value(written.removeprefix(VALUE)) if written.startswith(VALUE) else written
    if not isinstance(found, str):
        raise Mistake(f"{written!r} is a list, where a text is needed")
    return found


def texts(written: str | list[str], known: Known) -> list[str]:
    """Return a list of texts, or the one that `value:NAME` stands for. Raises Mistake."""
    found = known.value(written.removeprefix(VALUE)) if isinstance(written, str) else written
    if isinstance(found, str):
        raise Mistake(f"{written!r} is a text, where a list is needed")
    return found


def parse(text: str, template: Template, known: Known) -> Source:
    """Parse a source. Raises Mistake."""
    kind, colon, rest = text.partition(":")
    if not colon:
        return Literal(text)
    builder = _BUILDERS.get(kind)
    if builder is None:
        raise Mistake(
            f"unknown source {kind!r}", near(kind, _BUILDERS) or f"the sources are {', '.join(sorted(_BUILDERS))}"
        )
    return builder(rest, template, known)


def _path(name: str, template: Template, known: Known) -> Source:
    index = template.variables.get(name)
    if index is None:
        raise Mistake(f"the path {template.text} has no variable {name!r}", near(name, template.variables))
    segment = template.segments[index]
    return PathVariable(index, segment.suffix, segment.tail)


def _host(name: str, template: Template, known: Known) -> Source:
    pattern = template.host
    if pattern is None or name not in pattern.variables:
        names = pattern.variables if pattern else ()
        raise Mistake(f"the rule's host has no label {name!r}", near(name, names) or "name it in braces in match.hosts")
    return HostLabel(pattern, pattern.variables.index(name))


def _query(text: str, template: Template, known: Known) -> Source:
    selected = _SELECTED.fullmatch(text)
    name, braces = selected.groups() if selected else (text, "")
    if _NAME.fullmatch(name) is None:
        raise Mistake(f"{name!r} is not a name")
    return QueryParameter(name, selection.conditions(braces))


def _body(pointer: str, template: Template, known: Known) -> Source:
    return BodyPointer(pointer, selection.pointer(pointer))


def _key(text: str, template: Template, known: Known) -> Source:
    kind, _, inner = text.partition(":")
    keys = known.keys
    if kind not in keys:
        raise Mistake(f"unknown kind of key {kind!r}", near(kind, keys) or f"the kinds are {', '.join(sorted(keys))}")
    if ":" not in inner:
        raise Mistake(f"key:{kind} needs the source of the key", f"such as key:{kind}:query:key")
    return KeyOwner(kind, _plain(inner, template, known), keys[kind])


def _lookup(text: str, template: Template, known: Known) -> Source:
    kind, _, inner = text.partition(":")
    kind, dot, field = kind.partition(".")
    if not known.lookups:
        raise Mistake(f"lookup:{kind} has nobody to ask", "name the KFP API in the settings, under lookups.kfp")
    if kind not in known.lookups:
        kinds = ", ".join(sorted(known.lookups))
        raise Mistake(
            f"unknown kind of lookup {kind!r}",
            near(kind, known.lookups) or f"the settings' lookups know {kinds}",
        )
    if dot and field != "name":
        raise Mistake(f"a lookup has no {field!r}", f"write lookup:{kind} or lookup:{kind}.name")
    if ":" not in inner:
        raise Mistake(f"lookup:{kind} needs the source of the id", f"such as lookup:{kind}:path:id")
    return LookedUp(kind, bool(dot), _plain(inner, template, known))


def _value(name: str, template: Template, known: Known) -> Source:
    return Literal(text(f"{VALUE}{name}", known))


def _plain(text: str, template: Template, known: Known) -> Source:
    """Parse a source inside another one, where nothing can be looked up."""
    source = parse(text, template, known)
    if isinstance(source, LookedUp):
        raise Mistake("a lookup cannot stand inside another source")
    return source


def _named(make: Callable[[str], Source]) -> Callable[[str, Template, Known], Source]:
    def build(name: str, template: Template, known: Known) -> Source:
        if _NAME.fullmatch(name) is None:
            raise Mistake(f"{name!r} is not a name")
        return make(name)

    return build


_BUILDERS: Mapping[str, Callable[[str, Template, Known], Source]] = {
    "path": _path,
    "host": _host,
    "query": _query,
    "header": _named(lambda name: Header(name.lower())),
    "claim": _named(Claim),
    "body": _body,
    "key": _key,
    "lookup": _lookup,
    "value": _value,
}
