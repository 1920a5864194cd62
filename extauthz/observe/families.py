"""The metrics of the parts beside the authority: policy, tokens and keys, lookups, the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Protocol, TypeVar

from prometheus_client.metrics_core import CounterMetricFamily as Counter
from prometheus_client.metrics_core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import Metric

from extauthz.identity.store import KeyStore
from extauthz.identity.tokens import TokenAuthenticator
from extauthz.lookup.kfp import KfpLookup
from extauthz.observe.audit.writer import AuditWriter
from extauthz.policy.reload import PolicyWatch


class Certified(Protocol):
    """The certificates of a listener."""

    problem: str

    @property
    def not_after(self) -> datetime:
        """When the one that serves expires."""
        ...


FamilyT = TypeVar("FamilyT", Counter, Gauge)


def labelled(family: FamilyT, values: Mapping[str, float]) -> FamilyT:
    """Fill a family that has one label."""
    for label, value in values.items():
        family.add_metric((label,), value)
    return family


def policy(watch: PolicyWatch) -> Iterator[Metric]:
    """Yield what became of the policy's changes."""
    results = {"taken": watch.reloaded, "refused": watch.refused}
    yield labelled(Counter("extauthz_policy_reloads", "Changes of the policy files.", labels=("result",)), results)
    text = "1 while the newest policy files serve; 0 while an older policy does."
    yield Gauge("extauthz_policy_current", text, value=not watch.problem)


def certificates(listeners: Mapping[str, Certified]) -> Iterator[Metric]:
    """Yield until when each listener's certificate is good, and whether it is the newest."""
    text = "When the listener's certificate expires, in Unix time."
    expiry = Gauge("extauthz_certificate_expiry_seconds", text, labels=("listener",))
    yield labelled(expiry, {name: found.not_after.timestamp() for name, found in listeners.items()})
    text = "1 while the newest certificate files serve; 0 while older ones do."
    current = Gauge("extauthz_certificate_current", text, labels=("listener",))
    yield labelled(current, {name: not found.problem for name, found in listeners.items()})


def tokens(authenticator: TokenAuthenticator) -> Iterator[Metric]:
    """Yield what is known of tokens, and of their issuers' keys."""
    text = "Tokens whose signature was verified; all others were remembered or refused."
    yield Counter("extauthz_tokens_verified", text, value=authenticator.verified)
    yield Gauge("extauthz_tokens_remembered", "Verified tokens in memory.", value=authenticator.known)
    stores = authenticator.stores
    fetches = Counter("extauthz_key_fetches", "Fetches of issuers' keys.", labels=("issuer", "result"))
    for store in stores:
        fetches.add_metric((store.issuer, "fetched"), store.fetched)
        fetches.add_metric((store.issuer, "failed"), store.failed)
    yield fetches
    usable = Gauge(
        "extauthz_issuer_keys", "Usable keys of each issuer; 0: none of its tokens passes.", labels=("issuer",)
    )
    yield labelled(usable, {store.issuer: _usable(store) for store in stores})


def lookups(lookup: KfpLookup) -> Iterator[Metric]:
    """Yield how the owners of objects were found out."""
    counts = lookup.counts
    asked = Counter("extauthz_lookups", "Questions for the owner of an object.", labels=("result",))
    yield labelled(asked, {"hit": counts.hits, "joined": counts.joined, "miss": counts.misses})
    yield Counter("extauthz_lookup_calls", "Requests to the pipelines API for owners.", value=counts.calls)
    yield Counter("extauthz_lookup_failures", "Lookups that got no usable answer.", value=counts.failures)


def audit(writer: AuditWriter) -> Iterator[Metric]:
    """Yield what became of audit records."""
    counts = writer.counts
    records = Counter("extauthz_audit_records", "Audit records by what became of them.", labels=("result",))
    yield labelled(records, {"written": counts.written, "dropped": counts.dropped, "lost": counts.lost})
    yield Gauge("extauthz_audit_records_waiting", "Audit records that wait to be written.", value=writer.waiting)


def _usable(store: KeyStore) -> int:
    return len(store.keys.keys) if store.keys else 0
