"""What a rule cannot tolerate: ambiguity in what it reads, or on every path of the platform."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from extauthz.document import Location
from extauthz.policy.model import Check, RuleModel
from extauthz.policy.rule import PATH_TOLERABLE
from extauthz.policy.template import Template
from extauthz.request.faults import Fault

if TYPE_CHECKING:
    from extauthz.policy.condition import Condition

Found = tuple[Location, str, str]
"""The place below `tolerate`, what is wrong there, and a hint."""


def mistakes(model: RuleModel, path: Template, condition: Condition | None) -> Iterator[Found]:
    """Find what a rule tolerates although it cannot."""
    tail = path.segments[-1].variable if path.tail is not None else None
    texts = [*_texts(model), *((text for text, _ in condition.reads()) if condition else ())]
    for index, fault in enumerate(model.tolerate):
        if fault in PATH_TOLERABLE:
            if tail is None:
                message = f"the path has no {{name...}}, so {fault.value!r} would never be tolerated"
                yield (index,), f"tolerate[{index}]: {message}", ""
        elif text := _reader(texts, fault):
            yield (index,), f"tolerate[{index}]: the rule reads {text}, so {fault.value!r} cannot be tolerated", ""
    if tail is None or PATH_TOLERABLE.isdisjoint(model.tolerate):
        return
    if not any(segment.literal for segment in path.segments):
        yield (), "a rule for every path cannot tolerate ambiguity", "give it a fixed prefix"
    if any(text.endswith(f"path:{tail}") for text in texts):
        yield (), f"the rule reads path:{tail}, so it cannot tolerate ambiguity there", ""
    if condition and "request.path" in condition.names:
        yield (), "the condition reads request.path, so the rule cannot tolerate ambiguity there", ""


def _texts(model: RuleModel) -> Iterator[str]:
    """Every source of a rule, as it is written."""
    for check in model.access or ():
        yield from (text.removesuffix("?") for text in _sources(check) if text)
    yield from model.forbid
    yield from (requirement.source.removesuffix("?") for requirement in model.require)


def _sources(check: Check) -> Iterator[str | None]:
    yield from (check.verb, check.resource, check.name, check.path, check.if_present, check.if_absent)
    yield from check.namespace if isinstance(check.namespace, list) else [check.namespace]


def _reader(texts: list[str], fault: Fault) -> str | None:
    """The source that a tolerated fault of query or body would make ambiguous."""
    kind = "body" if fault is Fault.FORM_BODY else "query"
    return next((text for text in texts if re.match(rf"(.*:)?{kind}:", text)), None)
