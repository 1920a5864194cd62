"""What the benches promise: requests fall due at their rate, waiting is not left out, and a run keeps what it has."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from bench import report
from bench.build_peers import OTHERS, build_information, existing
from bench.gates import Rows, peer_gates
from bench.machine import busy_seconds
from bench.openloop import OpenLoop, due_times, percentile
from bench.row import Gate, Row
from bench.run import run

REQUEST = b"GET / HTTP/1.1\r\nhost: k\r\n\r\n"
ALLOW = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
COUNT = 40
PER_SECOND = 200.0


def test_requests_fall_due_at_a_constant_rate() -> None:
    """The n-th one n intervals after the start, whatever happens meanwhile."""
    assert list(due_times(10, 4, 1.5)) == [10, 10.25, 10.5, 10.75, 11, 11.25]


def test_percentiles_are_latencies_that_were_seen() -> None:
    """The smallest one that the share of all does not exceed."""
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1)] == [50, 99, 100, 100]
    assert percentile([7.0], 0.999) == 7
    assert percentile([], 0.5) == 0


@contextmanager
def stalling() -> Iterator[int]:
    """Answer nobody before everybody has asked, each on a connection of its own; yield the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=COUNT) as server:

        def serve() -> None:
            held = [server.accept()[0] for _ in range(COUNT)]
            for connection in held:
                connection.recv(1000)
                connection.sendall(ALLOW)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_stall_is_seen_by_every_request_that_was_due_in_it() -> None:
    """Requests are sent though none is answered, and each one's latency counts from when it was due."""
    with stalling() as port:
        load = OpenLoop(port, REQUEST)
        outcome = load.run(PER_SECOND, COUNT / PER_SECOND)
        load.close()
    assert outcome.statuses == {200: COUNT}
    assert outcome.wrong == 0
    least = [(COUNT - 1 - number) / PER_SECOND for number in range(COUNT)]  # until the last one was due
    assert all(
        latency >= stalled for latency, stalled in zip(sorted(outcome.latencies, reverse=True), least, strict=True)
    )


def test_a_gate_that_was_not_measured_does_not_hold() -> None:
    """Neither does one whose value is above its limit."""
    assert [Gate("", value, 1.0).ok for value in (0.9, 1.0, 1.1, None)] == [True, True, False, False]


CONSOLE = Console(quiet=True)
ABOUT = {"day": "2026-11-26", "rounds": 3, "secondsEach": 1.5}


def test_a_run_that_is_cut_off_keeps_what_it_has(tmp_path: Path) -> None:
    """Rows are written after each section, with what is missing; the README's part can be made of that."""

    def cut_off() -> list[Row]:
        raise KeyboardInterrupt

    sections = {"edges": lambda: [Row("edge, saturated", "native-http", cpu_us=20.0)], "memory": cut_off}
    with pytest.raises(KeyboardInterrupt):
        run(CONSOLE, sections, ABOUT, partial(report.save, tmp_path, "bench"))
    kept = json.loads((tmp_path / "bench.json").read_text())
    rows = [Row(**row) for row in kept["rows"]]
    assert [row.cpu_us for row in rows] == [20]
    assert "**Cut off**: memory not measured." in " ".join(report.markdown(rows, [], kept["about"]).split())


def test_a_table_tells_of_other_work() -> None:
    """Above a fifth of a core, that latencies are not the servers' own."""
    _, about = run(CONSOLE, {"edges": list[Row]}, ABOUT, lambda rows, about: None)
    told = {others: report.markdown([], [], {**about, "othersCores": others}) for others in (0.1, 1.5, None)}
    assert ["busy machine" in text for text in told.values()] == [False, True, False]


def test_busy_seconds_only_grow() -> None:
    """The machine's cores have worked before, and for this loop."""
    before, began = busy_seconds(), time.process_time()
    while time.process_time() < began + 0.1:
        pass
    after = busy_seconds()
    assert before is None or (after is not None and 0 < before < after)


LISTED = """/tmp/kube-rbac-proxy: go1.26.8
\tpath\tgithub.com/brancz/kube-rbac-proxy/cmd/kube-rbac-proxy
\tmod\tgithub.com/brancz/kube-rbac-proxy\tv0.21.0\t
\tdep\tgolang.org/x/net\tv0.60.0\th1:x=
\tdep\tk8s.io/apiserver\tv0.35.1\th1:x=
\tbuild\t-buildmode=exe
\tbuild\tvcs.revision=898a9f44efb98797338433e785e02d98088980dd
\tbuild\tvcs.modified=true
"""


def test_a_peer_is_told_by_its_build() -> None:
    """Go's version, the module's and its revision, and what it rests on."""
    told = ["go1.26.8", "brancz/kube-rbac-proxy v0.21.0", "k8s.io/apiserver v0.35.1"]
    assert build_information(LISTED) == [*told, "revision 898a9f44efb9 with changes"]
    bare = LISTED.replace("v0.21.0", "(devel)").partition("\tbuild")[0]
    assert build_information(bare) == ["go1.26.8", "k8s.io/apiserver v0.35.1"]


def test_a_peer_that_is_built_already_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that the variable names, else the one on PATH; a variable that names none is a mistake."""
    other = OTHERS["kube-rbac-proxy"]
    named, found = tmp_path / "named", tmp_path / "path" / other.executable
    found.parent.mkdir()
    for file in (named, found):
        file.touch(mode=0o755)
    monkeypatch.delenv("KUBE_RBAC_PROXY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert existing("kube-rbac-proxy", other) is None
    monkeypatch.setenv("PATH", str(found.parent))
    assert existing("kube-rbac-proxy", other) == found
    monkeypatch.setenv("KUBE_RBAC_PROXY", str(named))
    assert existing("kube-rbac-proxy", other) == named
    monkeypatch.setenv("KUBE_RBAC_PROXY", str(tmp_path / "nothing"))
    with pytest.raises(SystemExit, match="KUBE_RBAC_PROXY"):
        existing("kube-rbac-proxy", other)


@pytest.mark.parametrize(
    ("measured", "named"), [(["opa-engine", "opa-envoy"], "opa-envoy"), (["opa-engine"], "opa-engine")]
)
def test_the_gates_beside_peers_name_what_they_are_beside(measured: list[str], named: str) -> None:
    """OPA-Envoy where it was measured, else what stands in for it."""
    costs = {"native-grpc": 10.0, "native-http": 20.0, **dict.fromkeys(measured, 100.0)}
    found = peer_gates(Rows(Row("edge, saturated", server, cpu_us=cost) for server, cost in costs.items()))
    assert [(gate.name.split(",")[0], gate.value) for gate in found] == [
        (f"native-grpc beside {named}", 0.1),
        (f"native-http beside {named}", 0.2),
    ]
