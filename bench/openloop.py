"""Open-loop load over HTTP/1.1: requests fall due at a constant rate, however long answers take.

A latency counts from the moment a request was due, not from when it could be sent: where a server
stalls, those that had to wait show it (no coordinated omission). One thread, one `select`; each
connection carries one request at a time, and a further connection is opened when none is free.
"""

from __future__ import annotations

import re
import select
import socket
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

MAX_CONNECTIONS = 200
LAST_ANSWER_SECONDS = 5.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Lost(Exception):
    """Requests will not be answered any more."""


def due_times(start: float, per_second: float, seconds: float) -> Iterator[float]:
    """Yield when each request is due. The times depend on nothing but the rate."""
    return (start + number / per_second for number in range(int(per_second * seconds)))


@dataclass
class Outcome:
    """What became of the requests of a run; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    """How often each status came; 0 counts those without an answer."""
    elapsed: float = 0.0

    def microseconds(self, share: float) -> float:
        """Return the latency that this share of the requests did not exceed."""
        return percentile(self.latencies, share) * 1e6

    @property
    def wrong(self) -> int:
        """How many were not answered with 200."""
        return self.statuses.total() - self.statuses[200]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))] if ordered else 0.0


def median(values: Sequence[float]) -> float:
    """Return the median, 0 of nothing."""
    return statistics.median(values) if values else 0.0


class Connection:
    """One connection; answers are found by their content-length."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._request = request
        self._received = b""

    def send(self, due: float) -> None:
        """Send the request that was due then."""
        self.due = due
        self._received = b""
        self.socket.sendall(self._request)

    def receive(self) -> int | None:
        """Return the status once the whole answer is here; 0 when the connection ended first."""
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            return 0
        if not data:
            return 0
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        length = _LENGTH.search(head + b"\r\n")
        if length is None or len(body) < int(length[1]):
            return None
        return int(head[9:12])


class OpenLoop:
    """Sends the same request to a port at a constant rate."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self._free: list[Connection] = []
        self._busy: dict[socket.socket, Connection] = {}
        self._waiting: deque[float] = deque()

    def run(self, per_second: float, seconds: float) -> Outcome:
        """Send for so long, then wait for the last answers."""
        outcome, start = Outcome(), time.perf_counter()
        due_ = deque(due_times(start, per_second, seconds))
        end = start + seconds + LAST_ANSWER_SECONDS
        while due_ or self._waiting or self._busy:
            now = time.perf_counter()
            while due_ and due_[0] <= now:
                self._waiting.append(due_.popleft())
            self._send()
            if now > end:
                break
            pause = max(0.0, due_[0] - time.perf_counter()) if due_ else end - now
            readable, _, _ = select.select(self._busy, (), (), pause)  # its pauses are exact to microseconds
            self._receive(readable, outcome)
        outcome.elapsed = time.perf_counter() - start
        lost = len(self._busy) + len(self._waiting) + len(due_)
        if lost:
            outcome.statuses[0] += lost
        return outcome

    def saturate(self, connections: int, seconds: float) -> Outcome:
        """Keep so many requests under way: a closed loop, whose latencies are those of a full server."""
        outcome, start = Outcome(), time.perf_counter()
        while (now := time.perf_counter()) < start + seconds or (self._busy and now < start + seconds + 5):
            if now < start + seconds:
                self._waiting.extend([now] * (connections - len(self._busy)))
                self._send()
            readable, _, _ = select.select(self._busy, (), (), LAST_ANSWER_SECONDS)
            self._receive(readable, outcome)
        outcome.elapsed = time.perf_counter() - start
        outcome.statuses[0] += len(self._busy)
        return outcome

    def close(self) -> None:
        """Close all connections."""
        for connection in [*self._free, *self._busy.values()]:
            connection.socket.close()

    def _send(self) -> None:
        while self._waiting:
            if not self._free and len(self._busy) >= MAX_CONNECTIONS:
                return
            connection = self._free.pop() if self._free else Connection(self._port, self._request)
            connection.send(self._waiting.popleft())
            self._busy[connection.socket] = connection

    def _receive(self, readable: list[socket.socket], outcome: Outcome) -> None:
        for each in readable:
            connection = self._busy[each]
            status = connection.receive()
            if status is None:
                continue
            outcome.latencies.append(time.perf_counter() - connection.due)
            outcome.statuses[status] += 1
            del self._busy[each]
            if status:
                self._free.append(connection)
            else:
                each.close()
