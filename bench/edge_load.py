"""Closed-loop load for the edges' micro-benchmark: raw sockets, requests written once, answers counted.

Only as much of HTTP/2 as counting needs; every answer is looked at for an allow by its size.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from dataclasses import dataclass

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER = struct.Struct(">HBBBL")
_LARGEST = 2**31 - 1


class Http1Client:
    """Sends one request after the other."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._size = 0
        self._received = 0

    def ask(self, count: int) -> None:
        self.socket.sendall(self._request * count)

    def receive(self) -> int:
        """Return how many whole answers have come; all have the size of the first."""
        data = self.socket.recv(65536)
        if not self._size:
            if not data.startswith(b"HTTP/1.1 200") or not data.endswith(b"\r\n\r\n"):
                raise SystemExit(f"not allowed: {data[:300]!r}")
            self._size = len(data)
        self._received += len(data)
        whole, self._received = divmod(self._received, self._size)
        return whole


class Http2Client:
    """Sends gRPC calls, several at once."""

    def __init__(self, port: int, message: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        section = _section(port)
        body = b"\0" + len(message).to_bytes(4, "big") + message
        self._headers = _start(1, 4, section), section + _start(0, 1, body), body
        self._size = len(body)
        self._stream = -1
        self._credit = 65535
        self._wanted = 0
        self._buffer = b""
        self._first = True
        settings = struct.pack(">HLHL", 1, 0, 4, _LARGEST)
        window = struct.pack(">L", _LARGEST - 65535)
        hello = PREFACE + _frame(4, 0, settings) + _frame(8, 0, window)
        self.socket.sendall(hello)
        while not self._buffer_holds_settings():
            self._buffer += self.socket.recv(65536)
        self.receive(self._buffer)

    def ask(self, count: int) -> None:
        self._wanted += count
        self._send()

    def receive(self, data: bytes | None = None) -> int:
        """Return how many calls have ended."""
        if data is None:
            data = self._buffer + self.socket.recv(262144)
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
                self.socket.sendall(_frame(4, 1, b""))
            elif kind == 6 and not flags & 1:
                self.socket.sendall(_frame(6, 1, data[at + 9 : stop]))
            elif kind in (3, 7):
                raise SystemExit(f"refused: {data[at:stop]!r}")
            at = stop
        self._buffer = data[at:]
        self._send()
        return ended

    def _send(self) -> None:
        out = []
        while self._wanted and self._credit >= self._size:
            self._stream += 2
            out.append(self._stream.to_bytes(4, "big").join(self._headers))
            self._wanted -= 1
            self._credit -= self._size
        if out:
            self.socket.sendall(b"".join(out))

    def _check(self, body: bytes) -> None:
        self._first = False
        if not body[5:].startswith(b"\n\0") or b"kubeflow-userid" not in body:
            raise SystemExit(f"not allowed: {body!r}")

    def _buffer_holds_settings(self) -> bool:
        return len(self._buffer) >= 9 and len(self._buffer) >= 9 + int.from_bytes(self._buffer[:3], "big")


Client = Http1Client | Http2Client


def _section(port: int) -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/envoy.service.auth.v3.Authorization/Check"),
        (":authority", f"127.0.0.1:{port}"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "2000m"),
        ("x-envoy-internal", "true"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-envoy-expected-rq-timeout-ms", "2000"),
    ]
    return encoder.encode(fields)


def _start(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags))


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return _start(kind, flags, payload) + b"\0\0\0\0" + payload


@dataclass(frozen=True)
class Load:
    """How hard to ask."""

    connections: int
    in_flight: int


def run(clients: list[Client], in_flight: int, seconds: float) -> int:
    """Keep `in_flight` requests under way on each connection; return how many were answered."""
    answered = 0
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.ask(in_flight)
        end = time.perf_counter() + seconds
        under_way = in_flight * len(clients)
        while under_way:
            for key, _ in selector.select():
                count = key.data.receive()
                answered += count
                if count and time.perf_counter() < end:
                    key.data.ask(count)
                else:
                    under_way -= count
    return answered
