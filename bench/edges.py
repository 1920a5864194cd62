"""Each edge without Envoy: at saturation, and at 1,000 checks per second.

Server and load have one core each. "Saturated" keeps 4 connections with 64 calls each for gRPC, and
64 connections for HTTP/1.1; latencies there are those of a full server. At the constant rate all
requests go over 4 connections, so that few come at a time, as they do from an Envoy.

Before that, every server that decides has to allow the request, and to refuse others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from bench import decides
from bench.edge_load import Client, at_rate, saturate
from bench.openloop import Outcome
from bench.rounds import Load, Put, measure
from bench.row import Row
from bench.subjects import Prepared, Requests, Subject, running

FULL = {"grpc": (4, 64), "http": (64, 1)}
"""Connections, and requests under way on each."""
AT_RATE_CONNECTIONS = 4
PER_SECOND = 1000.0


def run(subjects: list[Subject], prepared: Prepared, *, seconds: float, rounds: int) -> list[Row]:
    """Return both scenarios for every server."""
    loads = [
        Load("edge, saturated", partial(_saturated, prepared.requests)),
        Load("edge, 1,000/s", partial(_at_rate, prepared.requests)),
    ]
    with ExitStack() as stack:
        servers = {each.name: stack.enter_context(running(each.command, port=each.port)) for each in subjects}
        ports = {name: server.port for name, server in servers.items()}
        for each in subjects:
            if each.decides:
                decides.check(each, ports[each.name], prepared)
        return measure(subjects, servers, ports, loads, seconds=seconds, rounds=rounds)


@contextmanager
def _saturated(requests: Requests, subject: Subject, port: int) -> Iterator[Put]:
    connections, in_flight = FULL[subject.protocol]
    with _clients(requests, subject, port, connections) as put:
        yield lambda seconds: put(lambda clients: saturate(clients, in_flight, seconds))


@contextmanager
def _at_rate(requests: Requests, subject: Subject, port: int) -> Iterator[Put]:
    with _clients(requests, subject, port, AT_RATE_CONNECTIONS) as put:
        yield lambda seconds: put(lambda clients: at_rate(clients, PER_SECOND, seconds))


@contextmanager
def _clients(
    requests: Requests, subject: Subject, port: int, count: int
) -> Iterator[Callable[[Callable[[list[Client]], Outcome]], Outcome]]:
    clients = [requests.client(subject.protocol, port) for _ in range(count)]
    try:
        yield lambda put: put(clients)
    finally:
        for client in clients:
            client.socket.close()
