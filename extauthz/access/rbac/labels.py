"""Label selectors: what they match, and which ones kube-apiserver calls valid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from extauthz.access.rbac import fields
from extauthz.access.rbac.fields import Unacceptable

_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", re.ASCII)
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)

NEEDS_VALUES = frozenset({"In", "NotIn"})
WITHOUT_VALUES = frozenset({"Exists", "DoesNotExist"})
OPERATORS = NEEDS_VALUES | WITHOUT_VALUES


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a set of labels."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels fulfil it; `NotIn` also holds where the key is absent."""
        value = labels.get(self.key)
        if self.operator == "Exists":
            return value is not None
        if self.operator == "DoesNotExist":
            return value is None
        return (value in self.values) == (self.operator == "In")


Selector = tuple[Requirement, ...]
"""Conditions that must all hold; an empty selector matches everything."""


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Tell whether labels fulfil every condition of a selector."""
    return all(requirement.matches(labels) for requirement in selector)


def selector(data: fields.Object) -> Selector:
    """Read a LabelSelector. Raises Undecodable and Unacceptable."""
    wanted = fields.text_map(data, "matchLabels")
    exact = [Requirement(key, "In", frozenset({value})) for key, value in wanted.items()]
    found = (*exact, *(_requirement(item) for item in fields.objects(data, "matchExpressions")))
    for requirement in found:
        if requirement.operator not in OPERATORS:
            raise Unacceptable(f"{requirement.operator!r} is not a selector operator")
        check(requirement)
    return found


def _requirement(data: fields.Object) -> Requirement:
    values = frozenset(fields.texts(data, "values"))
    return Requirement(fields.text(data, "key"), fields.text(data, "operator"), values)


def check(requirement: Requirement) -> None:
    """Raise Unacceptable unless key, values and their number suit the operator, if it is a known one."""
    if requirement.operator in NEEDS_VALUES and not requirement.values:
        raise Unacceptable(f"operator {requirement.operator} needs values")
    if requirement.operator in WITHOUT_VALUES and requirement.values:
        raise Unacceptable(f"operator {requirement.operator} takes no values")
    if not is_key(requirement.key):
        raise Unacceptable(f"{requirement.key!r} is not a label key")
    for value in requirement.values:
        if not is_value(value):
            raise Unacceptable(f"{value!r} is not a label value")


def is_key(key: str) -> bool:
    """Tell whether text is a qualified name: an optional DNS subdomain with `/`, and a name of 63 characters."""
    domain, slash, name = key.rpartition("/")
    return len(name) <= 63 and _NAME.fullmatch(name) is not None and (not slash or is_domain(domain))


def is_value(value: str) -> bool:
    """Tell whether text can be a label's value."""
    return not value or (len(value) <= 63 and _NAME.fullmatch(value) is not None)


def is_domain(name: str) -> bool:
    """Tell whether text is a DNS subdomain, as names of ServiceAccounts are."""
    return len(name) <= 253 and _DOMAIN.fullmatch(name) is not None
