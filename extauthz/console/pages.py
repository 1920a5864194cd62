"""From what the parts know to what a page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from extauthz import __version__
from extauthz.access.authority import Authority
from extauthz.console import charts, decisions, health, rules
from extauthz.console.explaining import Form, Mistaken
from extauthz.explain import Believed, decided, explained
from extauthz.gateway import Gateway
from extauthz.identity import Authenticators
from extauthz.lookup.kfp import KfpLookup
from extauthz.observe.audit.recent import RecentDecisions
from extauthz.observe.history import INTERVAL_SECONDS, History, Interval, buckets_of, quantile
from extauthz.observe.meter import BOUNDS, Meter, MeteredGateway
from extauthz.request import METHODS
from extauthz.settings.identity import Identity
from extauthz.steps import Authenticator

Page = dict[str, Any]
"""What a template is given."""

OUTCOMES = {
    "allow": "allowed",
    "shadow": "allowed in shadow",
    "deny": "denied",
    "unauthenticated": "not signed in",
    "error": "failed",
}
SHOWS = {
    "": "All rules",
    "used": "Used",
    "unused": "Not used yet",
    "refusing": "Refusing",
    "shadow": "In shadow",
}
_LAYERS = (("good", "allowed"), ("shadow", "in shadow"), ("deny", "refused"), ("bad", "failed"))
_LATENCIES = (("p50", "median"), ("p99", "99 %"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the pages tell of. `asking` makes a gateway of the same parts for another authenticator, not counted."""

    identity: Identity
    gateway: MeteredGateway
    asking: Callable[[Authenticator], Gateway]
    authenticator: Authenticators
    authority: Authority
    lookup: KfpLookup | None
    recent: RecentDecisions
    history: History
    blockers: Callable[[], list[str]]
    warnings: Callable[[], list[str]]
    max_body_bytes: int


class Pages:
    """Puts pages together."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def overview(self) -> Page:
        """Return how the service is, and what it did in the last minutes."""
        parts, intervals = self._parts, self._parts.history.intervals()
        meter = parts.gateway.meter
        counts = _by_reason(meter)
        total = sum(count for _, count in counts)
        refused = sum(count for (outcome, _), count in counts if outcome != "allow")
        median, slow = quantile(buckets_of(meter), 0.5), quantile(buckets_of(meter), 0.99)
        return {
            "version": __version__,
            "blockers": parts.blockers(),
            "warnings": parts.warnings(),
            "total": total,
            "refused": refused,
            "share": refused / total if total else 0,
            "median": _below(median),
            "slow": _below(slow),
            "reasons": [(outcome, reason, count, count / total) for (outcome, reason), count in counts],
            "rules": len({rule.ref for rule in parts.gateway.policy.rules}),
            "health": health.parts(parts.identity, parts.authenticator, parts.authority, parts.lookup),
            "decided": _decided(intervals),
            "took": _took(intervals),
            "spread": _spread(buckets_of(meter)),
            "layers": _LAYERS,
            "latencies": _LATENCIES,
            "clock": lambda at: datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S"),
            "intervals": [interval for interval in reversed(intervals) if interval.total],
        }

    def rules(self, query: Mapping[str, str]) -> Page:
        """Return the rules that a query selects."""
        every = rules.rows(self._parts.gateway.policy, self._parts.gateway.meter)
        q, show = query.get("q", ""), query.get("show", "")
        return {"q": q, "show": show, "shows": SHOWS, "every": len(every), "rows": rules.selected(every, q, show)}

    def decisions(self, query: Mapping[str, str]) -> Page:
        """Return the last decisions that a query selects."""
        wanted = decisions.Filter.of(query)
        kept = self._parts.recent.since()
        return {
            "filter": wanted,
            "filtered": wanted != decisions.Filter(),
            "outcomes": OUTCOMES,
            "kept": len(kept),
            "records": decisions.newest(kept, wanted),
            "outcome_of": decisions.outcome,
            "namespaces_of": decisions.namespaces,
            "duration": charts.duration,
            "most": decisions.MAX_SHOWN,
        }

    def decision(self, number: int) -> Page | None:
        """Return one decision that is still remembered."""
        found = next((record for key, record in self._parts.recent.since(number - 1) if key == number), None)
        if found is None:
            return None
        words = {"outcomes": OUTCOMES, "duration": charts.duration, "right": decisions.right}
        return {"number": number, "record": found, "outcome": decisions.outcome(found), **words}

    def form(self, form: Form, mistake: Mistaken | None = None) -> Page:
        """Return the form that explains a request."""
        return {"form": form, "mistake": mistake, "methods": sorted(METHODS), "answer": None}

    async def explain(self, form: Form) -> Page:
        """Return the form with its answer, or with what is wrong in it."""
        parts = self._parts
        try:
            question = form.question(limit=parts.max_body_bytes)
        except Mistaken as mistake:
            return self.form(form, mistake)
        proven = question.user is None
        who = parts.authenticator if proven else Believed(question.user or "", question.groups, by="console")
        gateway = parts.asking(who)
        decision = await decided(gateway, question)
        words = {"answer": explained(gateway, question, decision), "outcomes": OUTCOMES, "right": decisions.right}
        return {**self.form(form), **words}


def _by_reason(meter: Meter) -> list[tuple[tuple[str, str], int]]:
    counts: Counter[tuple[str, str]] = Counter()
    for (outcome, reason, _), count in meter.by_text().items():
        counts[outcome, reason] += count
    return counts.most_common()


def _decided(intervals: Sequence[Interval]) -> charts.Chart:
    columns = [(each.allowed, each.would_refuse, each.refused, each.failed) for each in intervals]
    sums = [sum(column) for column in zip(*columns, strict=True)]
    told = ", ".join(f"{count:,} {name}" for count, (_, name) in zip(sums, _LAYERS, strict=True))
    return charts.bars(
        columns, _LAYERS, _times(len(intervals)), f"Decisions each {INTERVAL_SECONDS:.0f} seconds: {told}"
    )


def _took(intervals: Sequence[Interval]) -> charts.Chart:
    series = [[_finite(quantile(each.buckets, share)) for each in intervals] for share in (0.5, 0.99)]
    highest = [max((value for value in values if value is not None), default=None) for values in series]
    told = ", ".join(
        f"{name} at most {charts.duration(value)}"
        for value, (_, name) in zip(highest, _LATENCIES, strict=True)
        if value is not None
    )
    return charts.lines(series, _LATENCIES, _times(len(intervals)), f"How long decisions took: {told or 'none yet'}")


def _spread(buckets: tuple[int, ...]) -> charts.Chart:
    labels = [charts.duration(bound) if index % 4 == 0 else "" for index, bound in enumerate(BOUNDS)]
    most = max(range(len(buckets)), key=buckets.__getitem__)
    told = f"most took at most {charts.duration((*BOUNDS, BOUNDS[-1])[most])}" if any(buckets) else "none yet"
    columns = [(count,) for count in buckets]
    return charts.bars(columns, (("p50", "decisions"),), [*labels, ""], f"Decisions by how long they took: {told}")


def _times(columns: int) -> list[str]:
    """Say below the first, the middle and the last column how long ago it was."""
    minutes = columns * INTERVAL_SECONDS / 60
    named = {0: f"{minutes:.0f} min ago", columns // 2: f"{minutes / 2:.0f} min ago", columns - 1: "now"}
    return [named.get(column, "") for column in range(columns)]


def _finite(seconds: float | None) -> float | None:
    return BOUNDS[-1] if seconds == float("inf") else seconds


def _below(seconds: float | None) -> str:
    if seconds is None:
        return "none yet"
    return f"> {charts.duration(BOUNDS[-1])}" if seconds == float("inf") else f"≤ {charts.duration(seconds)}"
