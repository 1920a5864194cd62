"""Load on an edge without Envoy, full or at a constant rate: raw sockets, requests written once, answers counted.

Only as much of HTTP/2 as counting needs; every answer is looked at for an allow by its size. Requests differ
in their id, as real ones do: by it is drawn which of them the audit log tells.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from collections import deque

import hpack

from bench.openloop import LAST_ANSWER_SECONDS, Lost, Outcome, due_times

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST_ID = b"6f3c1f0e-9f9c-4e0f-8a2a-1b1f0c6d7e8f"
"""The id in every prepared request."""
IDS = 500
_HEADER = struct.Struct(">HBBBL")
_LENGTH_PREFIX = b"\0\0\0\0\0"
_LARGEST = 2**31 - 1


class Http1Client:
    """Sends one request after the other."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = itertools.cycle(with_ids(request))
        self._size = 0
        self._received = 0

    def ask(self, count: int) -> None:
        self.socket.sendall(b"".join(itertools.islice(self._requests, count)))

    def receive(self) -> int:
        """Return how many whole answers have come; all have the size of the first."""
        data = _read(self.socket)
        if not self._size:
            head, end, _ = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200") or b"content-length: 0" not in head.lower() or not end:
                raise SystemExit(f"not allowed: {data[:300]!r}")
            self._size = len(head + end)
        self._received += len(data)
        whole, self._received = divmod(self._received, self._size)
        return whole


class Http2Client:
    """Sends gRPC calls, several at once."""

    def __init__(self, port: int, message: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._calls = itertools.cycle([_parts(each) for each in with_ids(message)])
        self._size = len(message) + len(_LENGTH_PREFIX)
        self._stream = -1
        self._credit = 65535
        self._wanted = 0
        self._buffer = b""
        self._first = True
        self.socket.sendall(HELLO)
        while not self._buffer_holds_settings():
            self._buffer += self.socket.recv(65536)
        self.receive(self._buffer)

    def ask(self, count: int) -> None:
        self._wanted += count
        self._send()

    def receive(self, data: bytes | None = None) -> int:
        """Return how many calls have ended."""
        if data is None:
            data = self._buffer + _read(self.socket)
        at, ended = 0, 0
        while len(data) - at >= 9:
            high, low, kind, flags, stream = _HEADER.unpack_from(data, at)
            stop = at + 9 + (high << 8 | low)
            if stop > len(data):
                break
            if kind == 1 and flags & 1:
                ended += 1
            elif kind == 0 and self._first:
                self._check(data[at + 9 : stop])
            elif kind == 8 and not stream:
                self._credit += int.from_bytes(data[at + 9 : stop], "big")
            elif kind == 4 and not flags & 1:
                self.socket.sendall(SEEN)
            elif kind == 6 and not flags & 1:
                self.socket.sendall(_frame(6, 1, data[at + 9 : stop]))
            elif kind in (3, 7):
                raise Lost(f"refused: {data[at:stop]!r}")
            at = stop
        self._buffer = data[at:]
        self._send()
        return ended

    def _send(self) -> None:
        out = []
        while self._wanted and self._credit >= self._size:
            self._stream += 2
            out.append(self._stream.to_bytes(4, "big").join(next(self._calls)))
            self._wanted -= 1
            self._credit -= self._size
        if out:
            self.socket.sendall(b"".join(out))

    def _check(self, body: bytes) -> None:
        self._first = False
        if not body[5:].startswith(b"\n\0"):
            raise SystemExit(f"not allowed: {body!r}")

    def _buffer_holds_settings(self) -> bool:
        return len(self._buffer) >= 9 and len(self._buffer) >= 9 + int.from_bytes(self._buffer[:3], "big")


Client = Http1Client | Http2Client


def with_ids(request: bytes) -> list[bytes]:
    """Return copies of a request that differ in nothing but their id."""
    return [request.replace(REQUEST_ID, b"%036d" % number) for number in range(IDS)]


def _read(source: socket.socket) -> bytes:
    data = source.recv(262144)
    if not data:
        raise Lost("the server has closed a connection")
    return data


def _parts(message: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the frames of a call, to be joined by a stream's number."""
    section = _section()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return _start(1, 4, section), section + _start(0, 1, body), body


def call(message: bytes, stream: int) -> bytes:
    """Return the frames of a call."""
    return stream.to_bytes(4, "big").join(_parts(message))


def _section() -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/envoy.service.auth.v3.Authorization/Check"),
        (":authority", "extauthz"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "20S"),
        ("x-envoy-internal", "true"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-envoy-expected-rq-timeout-ms", "2000"),
    ]
    return encoder.encode(fields)


def _start(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags))


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return _start(kind, flags, payload) + b"\0\0\0\0" + payload


HELLO = (
    PREFACE
    + _frame(4, 0, struct.pack(">HLHL", 1, 0, 4, _LARGEST))  # no table of headers; windows without a bound
    + _frame(8, 0, struct.pack(">L", _LARGEST - 65535))
)
"""How a client begins."""
SEEN = _frame(4, 1, b"")
"""What it says to the server's settings."""


class _Asking:
    """Clients with the times at which their requests were due; each answers in order, or nearly so."""

    def __init__(self, clients: list[Client]) -> None:
        self.outcome = Outcome()
        self.due: dict[Client, deque[float]] = {client: deque() for client in clients}
        self._by_socket = {client.socket: client for client in clients}

    def ask(self, client: Client, due: float, count: int = 1) -> None:
        self.due[client].extend([due] * count)
        client.ask(count)

    def receive(self, pause: float) -> list[tuple[Client, int]]:
        """Return who answered how many requests, after at most a pause."""
        readable, _, _ = select.select(self._by_socket, (), (), pause)
        if not readable and pause >= LAST_ANSWER_SECONDS:
            raise Lost(f"no answer within {pause} s: {sum(map(len, self.due.values()))} are missing")
        answers = [(self._by_socket[each], self._by_socket[each].receive()) for each in readable]
        now = time.perf_counter()
        for client, count in answers:
            due = self.due[client]
            self.outcome.latencies += (now - due.popleft() for _ in range(count))
            self.outcome.statuses[200] += count
        return answers

    @property
    def under_way(self) -> bool:
        return any(self.due.values())


def saturate(clients: list[Client], in_flight: int, seconds: float) -> Outcome:
    """Keep `in_flight` requests under way on each connection."""
    asking, start = _Asking(clients), time.perf_counter()
    for client in clients:
        asking.ask(client, start, in_flight)
    while asking.under_way:
        for client, count in asking.receive(LAST_ANSWER_SECONDS):
            if count and (now := time.perf_counter()) < start + seconds:
                asking.ask(client, now, count)
    asking.outcome.elapsed = time.perf_counter() - start
    return asking.outcome


def at_rate(clients: list[Client], per_second: float, seconds: float) -> Outcome:
    """Ask at a constant rate, over the connections in turn; latencies count from when a request was due."""
    asking, start, turn = _Asking(clients), time.perf_counter(), itertools.cycle(clients)
    due_ = deque(due_times(start, per_second, seconds))
    while due_ or asking.under_way:
        while due_ and due_[0] <= time.perf_counter():
            asking.ask(next(turn), due_.popleft())
        asking.receive(max(0.0, due_[0] - time.perf_counter()) if due_ else LAST_ANSWER_SECONDS)
    asking.outcome.elapsed = time.perf_counter() - start
    return asking.outcome
