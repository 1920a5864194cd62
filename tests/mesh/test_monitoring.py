"""Alerts and dashboard speak of metrics that a running service has, with labels that they have."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from extauthz import settings
from extauthz.service import Service
from tests.apiserver import Double
from tests.apiserver.fixtures import double
from tests.authority import Authority
from tests.cases import DATA
from tests.issuer import Issuer, KeyServer
from tests.mesh.kustomize import ISTIO

__all__ = ["double"]

MONITORING = ISTIO / "components" / "monitoring"
FROM_PROMETHEUS = {"pod", "namespace"}
"""Labels that the scrape adds."""
LATER = {
    ("extauthz_decisions_total", "outcome"): {"allow", "error"},
}
"""Values that appear with the first decision of their kind."""
Known = Mapping[str, Mapping[str, set[str]]]
_WORDS = {"absent", "by", "count", "histogram_quantile", "max", "min", "rate", "sum", "time", "topk"}
_NAME = re.compile(r"(?<![\w$])([a-z_][a-z0-9_]*)(?:\{([^}]*)\})?")


def queries() -> Iterator[tuple[str, str]]:
    """Every query of the kit, with where it stands."""
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def used(query: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The metrics of a query, each with the labels that it is asked for."""
    bare = re.sub(r"\bby\s*\(([^)]*)\)|\[[^\]]*\]", "", query)
    for name, labels in _NAME.findall(bare):
        if name not in _WORDS:
            yield name, dict(re.findall(r'(\w+)\s*!?=~?\s*"([^"]*)"', labels))


def grouped(query: str) -> set[str]:
    """The labels that a query groups by."""
    return {label.strip() for labels in re.findall(r"\bby\s*\(([^)]*)\)", query) for label in labels.split(",")}


@pytest.fixture
async def known(tmp_path: Path, double: Double) -> Known:
    """The series of a service that asks a cluster and evaluates locally: the values of each label."""
    issuer = Issuer()
    async with KeyServer(issuer) as keys:
        Authority().issue("extauthz").write(tmp_path)
        listeners: dict[str, Any] = {edge: {"address": "127.0.0.1:0"} for edge in ("grpc", "http", "admin")}
        listeners["grpc"]["tls"] = {"certFile": "tls.crt", "keyFile": "tls.key"}
        jwt = {"issuer": issuer.name, "audiences": [issuer.audience], "keys": {"url": f"{keys.url}/jwks"}}
        content = {
            "apiVersion": "extauthz.dev/v1",
            "kind": "Settings",
            "listeners": listeners,
            "identity": {"jwt": [jwt]},
            "access": {"kubernetes": {"kubeconfig": str(double.kubeconfig()), "local": {}}},
            "lookups": {"kfp": {"url": "http://127.0.0.1:9", "tokenFile": str(tmp_path / "settings.yaml")}},
            "audit": {"output": "file", "file": "audit.jsonl"},
            "policy": {"paths": [str(DATA / "cases" / "policy.yaml")]},
        }
        (tmp_path / "settings.yaml").write_text(yaml.safe_dump(content))
        service = Service(settings.load(tmp_path / "settings.yaml"))
        await service.start()
        try:
            async with ClientSession() as client:
                async with client.get(f"http://127.0.0.1:{service.http_port}/x") as response:
                    assert response.status != 200
                async with client.get(f"http://127.0.0.1:{service.admin_port}/metrics") as response:
                    return _read(await response.text())
        finally:
            await service.stop()


def _read(text: str) -> Known:
    series: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = series.setdefault(sample.name, defaultdict(set))
            for label, value in sample.labels.items():
                labels[label].add(value)
    return series


async def test_queries_name_what_is_there(known: Known) -> None:
    """Every metric, every label and every value of the kit's queries is one that the service has."""
    for place, query in queries():
        series = list(used(query))
        assert series, place
        for name, wanted in series:
            assert name in known, f"{place}: {name}"
            for label, value in wanted.items():
                is_there = label in FROM_PROMETHEUS or value in known[name][label] | LATER.get((name, label), set())
                assert is_there, f"{place}: {name}{{{label}={value!r}}}"
        labels = {label for name, _ in series for label in known[name]}
        assert grouped(query) <= labels | FROM_PROMETHEUS, place


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('sum by (le) (rate(a_bucket{x="1"}[5m])) / b', [("a_bucket", {"x": "1"}), ("b", {})]),
        ('topk(10, sum by (y) (rate(a{x!="1"}[$__rate_interval])))', [("a", {"x": "1"})]),
        ("absent(a == 1)", [("a", {})]),
    ],
)
def test_queries_are_read(query: str, found: list[tuple[str, dict[str, str]]]) -> None:
    """The reader of queries misses no metric and takes no function for one."""
    assert list(used(query)) == found


def test_alerts_say_what_to_do() -> None:
    """Each alert has a severity, a time, and a sentence that tells what it means."""
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["for"]
        assert len(rule["annotations"]["description"]) > len(rule["annotations"]["summary"])
