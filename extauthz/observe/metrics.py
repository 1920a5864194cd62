"""Prometheus metrics, put together when they are asked for from counters that the parts keep anyway.

Nothing here runs while a request is decided. Labels have fixed sets of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily as Counter
from prometheus_client.metrics_core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from extauthz import __version__
from extauthz.access.authority import Authority, Cluster
from extauthz.access.local import LocalAuthorizer
from extauthz.observe.audit.writer import AuditWriter
from extauthz.observe.meter import BOUNDS, Histogram, Meter

_BREAKER = ("closed", "half_open", "open")
_WATCH = ("synced", "behind", "down", "forbidden")


class Metrics(Collector):
    """The metrics of one service; `is_ready` says what `/readyz` would."""

    def __init__(
        self,
        meter: Meter,
        authority: Authority,
        is_ready: Callable[[], bool],
        *,
        audit_writer: AuditWriter | None = None,
    ) -> None:
        self._meter = meter
        self._authority = authority
        self._is_ready = is_ready
        self._audit_writer = audit_writer
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as text and its content type, in the format that an `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the moment."""
        yield _labelled(Gauge("extauthz_info", "The running version.", labels=("version",)), {__version__: 1})
        yield Gauge("extauthz_ready", "1 while checks can be answered.", value=self._is_ready())
        yield from _decisions(self._meter)
        if self._audit_writer:
            yield from _audit(self._audit_writer)
        if isinstance(self._authority, Cluster) and self._authority.started:
            yield from _reviews(self._authority)
            yield from _cache(self._authority)
            yield from _watch(self._authority)
            if self._authority.local:
                yield from _local(self._authority.local)


def _decisions(meter: Meter) -> Iterator[Metric]:
    decisions = Counter("extauthz_decisions", "Decisions by outcome and reason.", labels=("outcome", "reason"))
    for labels, count in meter.by_text().items():
        decisions.add_metric(labels, count)
    yield decisions
    took = HistogramMetricFamily(
        "extauthz_decision_seconds",
        "How long decisions took: from memory, or after asking for what was missing.",
        labels=("answered",),
    )
    for answered, histogram in (("from_memory", meter.from_memory), ("after_asking", meter.after_asking)):
        took.add_metric((answered,), _buckets(histogram), histogram.seconds)
    yield took
    text = "Checks that Envoy gave up on before they were answered."
    yield Counter("extauthz_checks_abandoned", text, value=meter.abandoned)


def _audit(writer: AuditWriter) -> Iterator[Metric]:
    counts = writer.counts
    records = Counter("extauthz_audit_records", "Audit records by what became of them.", labels=("result",))
    yield _labelled(records, {"written": counts.written, "dropped": counts.dropped, "lost": counts.lost})
    yield Gauge("extauthz_audit_records_waiting", "Audit records that wait to be written.", value=writer.waiting)


def _reviews(cluster: Cluster) -> Iterator[Metric]:
    counts, limiter = cluster.reviews.counts, cluster.reviews.limiter
    ended = Counter("extauthz_reviews", "SubjectAccessReviews by how they ended.", labels=("result",))
    yield _labelled(ended, {"answered": counts.answered, "failed": counts.failed})
    yield Counter("extauthz_review_requests", "Requests to the API server for reviews.", value=counts.sent)
    yield Counter("extauthz_review_retries", "Reviews that were asked again.", value=counts.retried)
    yield Gauge("extauthz_reviews_in_flight", "Reviews under way.", value=limiter.running)
    yield Gauge("extauthz_reviews_waiting", "Reviews that wait for others to end.", value=limiter.waiting)
    state = Gauge("extauthz_authorizer_breaker_state", "1 for the circuit breaker's state.", labels=("state",))
    yield _labelled(state, {name: name == cluster.reviews.breaker.state for name in _BREAKER})


def _cache(cluster: Cluster) -> Iterator[Metric]:
    counts = cluster.cached.counts
    asked = Counter("extauthz_review_cache_requests", "Questions to the review cache.", labels=("result",))
    yield _labelled(asked, {"hit": counts.hits, "joined": counts.joined, "miss": counts.misses})
    yield Counter("extauthz_stale_answers", "Old allows that served while reviews failed.", value=counts.stale)
    yield Gauge("extauthz_review_cache_entries", "Kept answers.", value=len(cluster.cached.kept))
    yield Gauge("extauthz_review_cache_bytes", "What they take, as estimated.", value=cluster.cached.kept.bytes)


def _watch(cluster: Cluster) -> Iterator[Metric]:
    counts, states = cluster.watch.counts, cluster.watch.states
    state = Gauge("extauthz_watch_state", "1 for the state of each watched resource.", labels=("resource", "state"))
    for resource, current in states.items():
        for name in _WATCH:
            state.add_metric((resource, name), name == current)
    yield state
    yield Counter("extauthz_watch_events", "Events and bookmarks of the RBAC watch.", value=counts.lines)
    yield Counter("extauthz_watch_connects", "Watches opened.", value=counts.connects)
    yield Counter("extauthz_watch_lists", "Resources listed anew.", value=counts.lists)
    yield Counter("extauthz_watch_failures", "Lists and watches that failed.", value=counts.failures)
    yield Counter("extauthz_watch_restarts", "Failures that nobody foresaw.", value=counts.restarts)


def _local(local: LocalAuthorizer) -> Iterator[Metric]:
    counts = local.counts
    text = "1 while local evaluation is believed; 0 after a difference, until the next start."
    yield Gauge("extauthz_local_trusted", text, value=local.trusted)
    asked = Counter("extauthz_local_reviews", "Reviews by who answered them.", labels=("answered",))
    yield _labelled(asked, {"local": counts.local, "fallback": counts.fallback})
    compared = Counter("extauthz_local_comparisons", "Local answers held against real reviews.", labels=("result",))
    results = {"equal": counts.verified, "different": counts.differences, "undecided": counts.undecided}
    yield _labelled(compared, results)


def _labelled(family: Counter | Gauge, values: dict[str, int | bool]) -> Metric:
    for label, value in values.items():
        family.add_metric((label,), value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, int]]:
    """Return the buckets as Prometheus counts them: each holds all shorter durations, too."""
    return list(zip((*map(str, BOUNDS), "+Inf"), accumulate(histogram.buckets), strict=True))
