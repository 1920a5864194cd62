"""Prometheus metrics, put together when they are asked for from counters that the parts keep anyway.

Nothing here runs while a request is decided. Values of labels are codes of this
package, or names from the policy and the settings; no request can bring one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily as Counter
from prometheus_client.metrics_core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from extauthz import __version__
from extauthz.access.authority import Authority, Cluster
from extauthz.observe import cluster_families
from extauthz.observe.families import labelled
from extauthz.observe.meter import BOUNDS, Histogram, Meter


class Metrics(Collector):
    """The metrics of one service; `is_ready` says what `/readyz` would, `more` are those of further parts."""

    def __init__(
        self,
        meter: Meter,
        authority: Authority,
        is_ready: Callable[[], bool],
        more: Sequence[Callable[[], Iterable[Metric]]] = (),
    ) -> None:
        self._meter = meter
        self._authority = authority
        self._is_ready = is_ready
        self._more = more
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as text and its content type, in the format that an `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the moment."""
        yield labelled(Gauge("extauthz_info", "The running version.", labels=("version",)), {__version__: 1})
        yield Gauge("extauthz_ready", "1 while checks can be answered.", value=self._is_ready())
        yield from _decisions(self._meter)
        for collect in self._more:
            yield from collect()
        if isinstance(self._authority, Cluster) and self._authority.started:
            yield from cluster_families.collect(self._authority)


def _decisions(meter: Meter) -> Iterator[Metric]:
    text = "Decisions by outcome, reason and rule."
    decisions = Counter("extauthz_decisions", text, labels=("outcome", "reason", "rule"))
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
    text = "Allows that were given again, since nothing that they rest on had changed; they took a few microseconds."
    yield Counter("extauthz_decisions_repeated", text, value=meter.repeated)
    text = "Checks that Envoy gave up on before they were answered."
    yield Counter("extauthz_checks_abandoned", text, value=meter.abandoned)


def _buckets(histogram: Histogram) -> list[tuple[str, int]]:
    """Return the buckets as Prometheus counts them: each holds all shorter durations, too."""
    return list(zip((*map(str, BOUNDS), "+Inf"), accumulate(histogram.buckets), strict=True))
