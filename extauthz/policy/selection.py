"""Conditions in braces: which elements of a list, or which meaning of a parameter, a source speaks of.

`{key/type=NAMESPACE|5,relationship=OWNER|1}` holds where every member has one of its
values. Values are those of protobuf enums: a name, or a number. KFP takes the first or the
last of several elements, differently in each place; here all that fit must lead to one
value, and every other list is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from extauthz.errors import Refused
from extauthz.policy import body
from extauthz.policy.template import Mistake

_ENUM = re.compile(r"[A-Z][A-Z0-9_]*|0|[1-9][0-9]{0,8}", re.ASCII)
_STEP = re.compile(r"/((?:[^/~{}]|~[01])+)(?:\{([^{}]*)\})?")
_POINTER = re.compile(rf"(?:{_STEP.pattern})+")


@dataclass(frozen=True, slots=True)
class Condition:
    """One member of an element, or a parameter, and the values that fit."""

    name: str
    values: frozenset[str]

    def holds(self, value: Any) -> bool:
        """Whether a value fits; unset fits nothing. Raises Refused for what is neither a name nor a number."""
        if value is None:
            return False
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or _ENUM.fullmatch(text) is None:
            raise Refused("enum_invalid", f"The request's {self.name} is neither the name nor the number of a type.")
        return text in self.values

    def fits(self, element: Any) -> bool:
        """Whether an element of a list has a member that fits. Raises Refused."""
        value = element
        for token in self.name.split("/"):
            value = None if value is None else body.member(value, token)
        if isinstance(value, str) and value.isdecimal():
            raise Refused("enum_invalid", f"The body's {self.name} is a number in quotes.")
        return self.holds(value)


@dataclass(frozen=True, slots=True)
class Step:
    """One token of a body pointer; `conditions` make it a list whose fitting elements are all read."""

    token: str
    conditions: tuple[Condition, ...] | None = None


def pointer(text: str) -> tuple[Step, ...]:
    """Parse a body pointer (RFC 6901) whose tokens may be followed by conditions in braces. Raises Mistake."""
    if _POINTER.fullmatch(text) is None:
        raise Mistake(f"body pointer {text!r} must name a member", "such as body:/namespace")
    return tuple(_step(*found.groups()) for found in _STEP.finditer(text))


def conditions(text: str) -> tuple[Condition, ...]:
    """Parse what stands between braces; nothing holds always. Raises Mistake."""
    return tuple(_condition(part) for part in text.split(",")) if text else ()


def values(value: Any, steps: tuple[Step, ...], leaf: Callable[[Any], str | None]) -> Iterator[str | None]:
    """Yield what each way through the body leads to; None where something is absent. Raises Refused."""
    if value is None or not steps:
        yield leaf(value)
        return
    step, rest = steps[0], steps[1:]
    inner = body.member(value, step.token)
    if step.conditions is None:
        yield from values(inner, rest, leaf)
        return
    for element in _elements(inner, step):
        if all(condition.fits(element) for condition in step.conditions):
            yield from values(element, rest, leaf)


def _elements(value: Any, step: Step) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused("body_not_list", f"The body's {step.token} is not a list.")
    if any(element is None for element in value):
        raise Refused("body_not_list", f"The body's {step.token} has an empty element.")
    return value


def _step(token: str, braces: str | None) -> Step:
    name = token.replace("~1", "/").replace("~0", "~")
    return Step(name, None if braces is None else conditions(braces))


def _condition(text: str) -> Condition:
    name, equals, alternatives = text.partition("=")
    found = frozenset(alternatives.split("|"))
    if not name.strip("/") or not equals or any(_ENUM.fullmatch(value) is None for value in found):
        raise Mistake(f"condition {text!r} must name a member and its values", "such as {key/type=NAMESPACE|5}")
    return Condition(name, found)
