"""Whether a server decides as the others do: it allows the request, and refuses those that are to be refused.

A server that answered everything would be fast, and measured for nothing.
"""

from __future__ import annotations

import grpc
from envoy.service.auth.v3 import external_auth_pb2

from bench.openloop import LAST_ANSWER_SECONDS, Connection
from bench.subjects import Prepared, Requests, Subject

CHECK = "/envoy.service.auth.v3.Authorization/Check"
REFUSALS = {401, 403}


def check(subject: Subject, port: int, prepared: Prepared) -> None:
    """Ask a server for each kind of request. Ends the program where it decides otherwise."""
    asked = {"the request": prepared.requests, **prepared.refused}
    for name, requests in asked.items():
        if allows(subject.protocol, port, requests) is not (requests is prepared.requests):
            raise SystemExit(f"{subject.name} decides otherwise than ours: {name}")


def allows(protocol: str, port: int, requests: Requests) -> bool:
    """Return a server's decision. Ends the program where it gives none."""
    return _allows_grpc(port, requests.grpc) if protocol == "grpc" else _allows_http(port, requests.http)


def _allows_grpc(port: int, request: bytes) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = channel.unary_unary(CHECK)(request, timeout=LAST_ANSWER_SECONDS)
    return bool(external_auth_pb2.CheckResponse.FromString(answer).status.code == grpc.StatusCode.OK.value[0])


def _allows_http(port: int, request: bytes) -> bool:
    connection = Connection(port, request)
    connection.socket.settimeout(LAST_ANSWER_SECONDS)
    connection.send(0)
    while (status := connection.receive()) is None:
        pass
    connection.socket.close()
    if status != 200 and status not in REFUSALS:
        raise SystemExit(f"no decision: HTTP {status}")
    return status == 200
