"""The metrics of several workers as one exposition.

Counters and histograms are summed. Gauges are not: each keeps its worker's number in the label
`worker`, as prometheus_client's own multiprocess mode does with process ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from extauthz.workers.worker import Worker

SUMMED = ("counter", "histogram")
RESTARTS = "Workers that ended and were started again."


class Counts:
    """What workers have counted. No sum ever falls: the last word of those that ended or do not answer stays."""

    def __init__(self) -> None:
        self._last: dict[Worker, str] = {}
        self._ended: dict[str, Metric] = {}

    def hear(self, worker: Worker, text: str) -> None:
        """Take a worker's metrics."""
        self._last[worker] = text

    def merged(self, running: Mapping[int, Worker], *, restarts: int) -> Merged:
        """Return the metrics of all workers; `running` has those that have not ended, by their numbers."""
        for worker in self._last.keys() - set(running.values()):
            _add_all(self._ended, self._last.pop(worker), worker=None)
        families = deepcopy(self._ended)
        for number, worker in running.items():
            _add_all(families, self._last.get(worker, ""), worker=str(number))
        return Merged(families.values(), restarts)


class Merged(Collector):
    """Metrics to be written."""

    def __init__(self, families: Iterable[Metric], restarts: int) -> None:
        self._families = families
        self._restarts = restarts

    def encode(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that an `Accept` header asks for."""
        registry = CollectorRegistry()
        registry.register(self)
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._families
        yield CounterMetricFamily("extauthz_worker_restarts", RESTARTS, value=self._restarts)


def _add_all(families: dict[str, Metric], text: str, *, worker: str | None) -> None:
    """Add a worker's metrics, in the text format; without a worker's number only what is summed."""
    for family in text_string_to_metric_families(text):
        if worker is None and family.type not in SUMMED:
            continue
        into = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        if family.type in SUMMED:
            _sum(into, family)
        else:
            for sample in family.samples:
                into.add_sample(sample.name, {**sample.labels, "worker": str(worker)}, sample.value)


def _sum(into: Metric, family: Metric) -> None:
    places = {(sample.name, tuple(sample.labels.items())): place for place, sample in enumerate(into.samples)}
    for sample in family.samples:
        place = places.get((sample.name, tuple(sample.labels.items())))
        if place is None:
            into.samples.append(sample)
        else:
            into.samples[place] = sample._replace(value=into.samples[place].value + sample.value)
