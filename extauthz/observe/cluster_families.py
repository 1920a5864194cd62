"""The metrics of a cluster as the authority on rights: reviews, cache, watch and local evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily as Counter
from prometheus_client.metrics_core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import Metric

from extauthz.access.authority import Cluster
from extauthz.access.local import LocalAuthorizer
from extauthz.observe.families import labelled

_BREAKER = ("closed", "half_open", "open")
_WATCH = ("synced", "behind", "down", "forbidden")


def collect(cluster: Cluster) -> Iterator[Metric]:
    """Yield the metrics of a started cluster."""
    yield from _reviews(cluster)
    yield from _cache(cluster)
    yield from _watch(cluster)
    if cluster.local:
        yield from _local(cluster.local)


def _reviews(cluster: Cluster) -> Iterator[Metric]:
    counts, limiter = cluster.reviews.counts, cluster.reviews.limiter
    ended = Counter("extauthz_reviews", "SubjectAccessReviews by how they ended.", labels=("result",))
    yield labelled(ended, {"answered": counts.answered, "failed": counts.failed})
    yield Counter("extauthz_review_requests", "Requests to the API server for reviews.", value=counts.sent)
    yield Counter("extauthz_review_retries", "Reviews that were asked again.", value=counts.retried)
    yield Gauge("extauthz_reviews_in_flight", "Reviews under way.", value=limiter.running)
    yield Gauge("extauthz_reviews_waiting", "Reviews that wait for others to end.", value=limiter.waiting)
    state = Gauge("extauthz_authorizer_breaker_state", "1 for the circuit breaker's state.", labels=("state",))
    yield labelled(state, {name: name == cluster.reviews.breaker.state for name in _BREAKER})


def _cache(cluster: Cluster) -> Iterator[Metric]:
    counts = cluster.cached.counts
    asked = Counter("extauthz_review_cache_requests", "Questions to the review cache.", labels=("result",))
    yield labelled(asked, {"hit": counts.hits, "joined": counts.joined, "miss": counts.misses})
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
    text = "Seconds since the API server last showed that the watch of a resource lives."
    age = Gauge("extauthz_watch_age_seconds", text, labels=("resource",))
    yield labelled(age, cluster.watch.ages)
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
    yield labelled(asked, {"local": counts.local, "fallback": counts.fallback})
    compared = Counter("extauthz_local_comparisons", "Local answers held against real reviews.", labels=("result",))
    results = {"equal": counts.verified, "different": counts.differences, "undecided": counts.undecided}
    yield labelled(compared, results)
