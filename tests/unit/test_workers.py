"""What workers share: their settings, what they have counted, and connections that are given back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse

from extauthz import settings
from extauthz.edge.native.server import Connections
from extauthz.errors import ConfigurationError
from extauthz.workers.exposition import Counts
from extauthz.workers.worker import Worker

NATIVE = {"grpc": {"server": "native"}, "http": {"server": "native"}}
TEXT = """# HELP allows_total Allows.
# TYPE allows_total counter
allows_total{{reason="x"}} {allows}
# HELP took Took.
# TYPE took histogram
took_bucket{{le="1.0"}} {allows}
took_bucket{{le="+Inf"}} {allows}
took_count {allows}
took_sum 0.5
# HELP ready Ready.
# TYPE ready gauge
ready 1.0
"""


def load(folder: Path, listeners: Mapping[str, Any]) -> settings.Settings:
    """Return settings with two workers."""
    content = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "workers": 2,
        "listeners": listeners,
        "identity": {"jwt": [{"issuer": "https://i.example", "audiences": ["a"], "keys": {"file": "keys.json"}}]},
        "access": {"rbac": {"manifests": ["rbac.yaml"]}},
        "policy": {"paths": ["policy.yaml"]},
    }
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(content))
    return settings.load(file)


def test_settings_reach_a_worker_as_they_are(tmp_path: Path) -> None:
    """What the supervisor has read is what a worker gets, relative paths included."""
    read = load(tmp_path, NATIVE)
    told = settings.Settings.from_json(read.to_json())
    assert told == read
    assert told.resolve(Path("policy.yaml")) == tmp_path / "policy.yaml"


@pytest.mark.parametrize("edge", ["grpc", "http"])
def test_only_native_servers_share_a_port(tmp_path: Path, edge: str) -> None:
    """The others cannot be handed connections; they are named."""
    other = {"grpc": "grpcio", "http": "aiohttp"}[edge]
    with pytest.raises(ConfigurationError, match="server: native"):
        load(tmp_path, {**NATIVE, edge: {"server": other}})


def samples(counts: Counts, running: Mapping[int, Worker]) -> dict[str, float]:
    """Return what is told of the workers that run, each sample as it would be written."""
    text, _ = counts.merged(running, restarts=0).encode("")
    found = (sample for family in parse(text.decode()) for sample in family.samples)
    return {sample.name + str(dict(sorted(sample.labels.items()))): sample.value for sample in found}


def test_what_workers_counted_is_summed() -> None:
    """Counters and histograms are one, gauges one for each; a worker that ended, or does not answer, still counts."""
    first, second, third = (cast("Worker", object()) for _ in range(3))
    counts = Counts()
    counts.hear(first, TEXT.format(allows=3))
    counts.hear(second, TEXT.format(allows=4))
    told = samples(counts, {1: first, 2: second})
    assert told["allows_total{'reason': 'x'}"] == 7
    assert told["took_bucket{'le': '1.0'}"] == told["took_count{}"] == 7
    assert told["took_sum{}"] == 1
    assert told["ready{'worker': '1'}"] == told["ready{'worker': '2'}"] == 1
    counts.hear(third, TEXT.format(allows=1))
    for _ in range(2):  # what ended is added once
        told = samples(counts, {1: third, 2: second})
        assert told["allows_total{'reason': 'x'}"] == 8
        assert "ready{}" not in told


class Open:
    """A connection that remembers that it was drained."""

    drained = 0

    def tick(self, now: float) -> None: ...
    def abort(self) -> None: ...

    def drain(self) -> None:
        self.drained += 1


def test_an_old_connection_is_drained_once() -> None:
    """After its time, which counts from the first tick, and at most a tenth later."""
    connections, connection = Connections(max_age=60), Open()
    connections.add(connection)
    for now in (100, 159.9):
        connections.tick(now)
    assert connection.drained == 0
    for now in (166.1, 300):
        connections.tick(now)
    assert connection.drained == 1


def test_without_an_age_connections_last() -> None:
    """As they do where nobody else could take them."""
    connections, connection = Connections(), Open()
    connections.add(connection)
    for now in (0, 1e9):
        connections.tick(now)
    assert connection.drained == 0
