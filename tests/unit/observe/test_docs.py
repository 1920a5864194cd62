"""What the documentation says of the metrics is what a scrape gets."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from extauthz import settings
from extauthz.service import Service
from tests.apiserver import Double
from tests.apiserver.fixtures import double
from tests.authority import Authority
from tests.cases import REPOSITORY, request

__all__ = ["double"]

ROW = re.compile(r"^\| `(extauthz_\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


async def test_the_table_lists_exactly_what_is_exposed(double: Double, tmp_path: Path) -> None:
    """Each metric with its type, labels and help text; none is left out and none is made up."""
    service = Service(everything(tmp_path, double))
    await service.start()
    service.gateway.decide(request("GET", "/nowhere"))
    found = [family for family in service.metrics.collect() if not family.name.startswith("process_")]
    await service.stop()
    exposed = set()
    for family in found:
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + "_total" * (family.type == "counter")
        exposed.add((name, family.type, frozenset(labels), family.documentation))
    told = ROW.findall((REPOSITORY / "docs" / "operations.md").read_text())
    assert {(name, kind, frozenset(re.findall(r"\w+", labels)), text) for name, kind, labels, text in told} == exposed
    assert len(told) == len(exposed)


def everything(folder: Path, double: Double) -> settings.Settings:
    """Settings with every part that has metrics."""
    file = folder / "settings.yaml"
    Authority().issue("extauthz").write(folder)
    tls = {"certFile": "tls.crt", "keyFile": "tls.key"}
    content = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "listeners": {edge: {"address": "127.0.0.1:0", "tls": dict(tls)} for edge in ("grpc", "http", "admin")},
        "identity": {"jwt": [{"issuer": "i", "audiences": ["a"], "keys": {"url": "http://127.0.0.1:1/"}}]},
        "access": {"kubernetes": {"kubeconfig": str(double.kubeconfig()), "local": {}}},
        "lookups": {"kfp": {"url": "http://127.0.0.1:1"}},
        "policy": {"paths": [str(REPOSITORY / "tests/data/cases/policy.yaml")]},
        "audit": {"output": "file", "file": "audit.jsonl"},
        "tracing": {"endpoint": "http://127.0.0.1:1/v1/traces"},
    }
    file.write_text(yaml.safe_dump(content))
    return settings.load(file)
