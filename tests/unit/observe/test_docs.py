"""What the documentation says of the metrics is what a scrape gets."""

from __future__ import annotations

import re

from extauthz import settings
from extauthz.access.authority import Cluster
from extauthz.observe.audit.writer import AuditWriter
from extauthz.observe.meter import Meter
from extauthz.observe.metrics import Metrics
from tests.apiserver import Double
from tests.apiserver.fixtures import double
from tests.cases import REPOSITORY

__all__ = ["double"]

ROW = re.compile(r"^\| `(extauthz_\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


async def test_the_table_lists_exactly_what_is_exposed(double: Double) -> None:
    """Each metric with its type, labels and help text; none is left out and none is made up."""
    limits = settings.KubernetesAuthorizer(local=settings.LocalSettings())
    cluster = Cluster(limits, kubeconfig=double.kubeconfig())
    await cluster.start()
    exposed = set()
    meter = Meter(decisions={("allow", "allowed"): 1})
    for family in Metrics(meter, cluster, lambda: True, audit_writer=AuditWriter(None, queue_records=1)).collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + "_total" * (family.type == "counter")
        exposed.add((name, family.type, frozenset(labels), family.documentation))
    await cluster.stop()
    told = ROW.findall((REPOSITORY / "docs" / "operations.md").read_text())
    assert {(name, kind, frozenset(re.findall(r"\w+", labels)), text) for name, kind, labels, text in told} == exposed
    assert len(told) == len(exposed)
