"""The rules as a table: what each asks for, where it stands, and how often it decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from extauthz.decision import Outcome, Reason, RuleRef
from extauthz.observe.meter import Meter
from extauthz.policy import Answer, Policy, Rule
from extauthz.policy.check import NonResource, Resource
from extauthz.review import qualified


@dataclass(slots=True)
class Hits:
    """What a rule has decided since the start; `would_refuse` are allows of a shadow."""

    allowed: int = 0
    refused: int = 0
    would_refuse: int = 0

    @property
    def total(self) -> int:
        """How often it decided."""
        return self.allowed + self.refused + self.would_refuse


@dataclass(frozen=True, slots=True)
class Row:
    """One rule; a rule of several paths stands in one row."""

    ref: RuleRef
    methods: str
    paths: tuple[str, ...]
    hosts: tuple[str, ...]
    asks: tuple[str, ...]
    answer: Answer
    shadow: bool
    hits: Hits

    @property
    def file(self) -> str:
        """The policy file's name; its folder is told once."""
        return PurePath(self.ref.file).name

    def holds(self, words: Iterable[str]) -> bool:
        """Whether all words occur in it."""
        text = " ".join(
            (self.ref.name, self.file, self.methods, *self.paths, *self.hosts, *self.asks, self.answer)
        ).lower()
        return all(word in text for word in words)


def rows(policy: Policy, meter: Meter) -> list[Row]:
    """Return all rules, in the order of the files."""
    hits = _hits(meter)
    by_ref: dict[RuleRef, list[Rule]] = {}
    for rule in policy.rules:
        by_ref.setdefault(rule.ref, []).append(rule)
    return [_row(ref, rules, hits.get(ref.name, Hits())) for ref, rules in by_ref.items()]


def selected(found: Iterable[Row], query: str, show: str) -> list[Row]:
    """Return the rows that hold all words of a query, and of these those to `show`."""
    words = query.lower().split()
    return [row for row in found if _is_shown(row, show) and row.holds(words)]


def _is_shown(row: Row, show: str) -> bool:
    if show in ("used", "unused"):
        return (row.hits.total > 0) is (show == "used")
    if show == "shadow":
        return row.shadow or row.hits.would_refuse > 0
    return show != "refusing" or row.hits.refused > 0


def _hits(meter: Meter) -> dict[str, Hits]:
    found: dict[str, Hits] = {}
    for (outcome, reason, rule), count in meter.by_text().items():
        hits = found.setdefault(rule, Hits())
        if outcome != Outcome.ALLOW:
            hits.refused += count
        elif reason == Reason.SHADOW:
            hits.would_refuse += count
        else:
            hits.allowed += count
    return found


def _row(ref: RuleRef, rules: list[Rule], hits: Hits) -> Row:
    rule = rules[0]
    paths = tuple(dict.fromkeys(one.template.text for one in rules))
    asks = tuple(_asks(rule))
    return Row(ref, " ".join(rule.methods) or "any", paths, rule.hosts, asks, rule.answer, rule.shadow, hits)


def _asks(rule: Rule) -> Iterator[str]:
    if rule.message:
        yield rule.message
    for check in rule.checks:
        if isinstance(check, NonResource):
            yield f"{check.verb.text} {check.path.text}"
        else:
            yield _right(check)
    if rule.condition:
        yield f"when {rule.condition.text}"


def _right(check: Resource) -> str:
    kind = qualified(check.resource.text, check.group, check.subresource)
    where = " or ".join(bound.text.removesuffix("?") for bound in check.namespace) or "all namespaces"
    return f"{check.verb.text} {kind} in {where}"
