"""What the benches' load generator promises: requests fall due at their rate, and waiting is not left out."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bench.openloop import OpenLoop, due_times, percentile
from bench.row import Gate

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
