"""What running pods say of themselves on their admin listener: keys, watch, clock, and why they do not serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from prometheus_client.parser import text_string_to_metric_families

from extauthz.doctor.finding import Finding, critical, warning
from extauthz.doctor.manifests import Manifest

SKEW_SECONDS = 10
"""Clocks may differ so much before anybody is told."""
LEEWAY_SECONDS = 30
"""The default of `leewaySeconds`: beyond it tokens are refused."""


@dataclass(frozen=True, slots=True)
class Told:
    """The answers of one pod's admin listener; `date` is its `Date` header, `now` the true time then."""

    readyz: bytes
    metrics: str
    date: str
    now: datetime


def examine(told: Told, where: Manifest | None) -> Iterator[Finding]:
    """Yield what is wrong with a pod by its own words. Raises ValueError where they are not extauthz's."""
    state = json.loads(told.readyz)
    for blocker in state["blockers"]:
        yield critical(
            "not-ready", where, f"It answers no checks: {blocker}.", "the sentence names the cause; mend that"
        )
    for sentence in state["warnings"]:
        yield warning("degraded", where, f"It says of itself: {sentence}.", "see docs/operations.md")
    yield from _by_metrics(told.metrics, where)
    yield from _clock(told, where)


def _by_metrics(text: str, where: Manifest | None) -> Iterator[Finding]:
    forbidden = list(_labels(text, "extauthz_watch_state", 1, state="forbidden"))
    if forbidden:
        yield warning(
            "watch-forbidden",
            where,
            f"It may not list and watch {', '.join(sorted(labels['resource'] for labels in forbidden))}: a right that "
            "is taken away goes on for as long as cache.ttlWithoutWatchSeconds.",
            "bind the ClusterRole of istio/base/shared/rbac.yaml to its ServiceAccount",
        )
    for labels in _labels(text, "extauthz_issuer_keys", 0):
        yield critical(
            "keys-unreachable",
            where,
            f"It has no keys of {labels['issuer']}, so none of its tokens passes.",
            "check the address, and that NetworkPolicies let extauthz reach it; the log says what went wrong",
        )


def _labels(text: str, name: str, value: float, **wanted: str) -> Iterator[dict[str, str]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.value == value and wanted.items() <= sample.labels.items():
                yield sample.labels


def _clock(told: Told, where: Manifest | None) -> Iterator[Finding]:
    skew = (parsedate_to_datetime(told.date) - told.now).total_seconds()
    if abs(skew) > SKEW_SECONDS:
        finding = critical if abs(skew) > LEEWAY_SECONDS else warning
        yield finding(
            "clock-skew",
            where,
            f"Its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}. Tokens are refused as not yet valid, "
            f"or believed after they have expired; {LEEWAY_SECONDS} s are allowed for.",
            "let the node's clock be set by NTP",
        )
