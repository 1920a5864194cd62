"""One edge with everything behind it, in a process of its own: `python -m bench.edge_server EDGE FOLDER`.

The folder holds `settings.yaml`. The process prints its port and serves until its standard
input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Protocol

import uvloop

from extauthz import settings
from extauthz.edge import grpc, http
from extauthz.edge.native import grpc as native_grpc
from extauthz.edge.native import http as native_http
from extauthz.service import Service
from extauthz.settings import GrpcListener, HttpListener

ADDRESS = "127.0.0.1:0"


class Edge(Protocol):
    """What is measured."""

    @property
    def port(self) -> int: ...
    async def start(self) -> None: ...
    async def stop(self, grace: float) -> None: ...


def edge_of(name: str, service: Service) -> Edge:
    """Build an edge over the service's own gateway."""
    gateway, limit = service.gateway, service.settings.body.max_request_bytes
    if name == "grpcio":
        return grpc.GrpcEdge(gateway, GrpcListener(address=ADDRESS), max_body_bytes=limit)
    if name == "native-grpc":
        return native_grpc.GrpcEdge(gateway, GrpcListener(address=ADDRESS), max_body_bytes=limit)
    kind = http.HttpEdge if name == "aiohttp" else native_http.HttpEdge
    return kind(gateway, HttpListener(address=ADDRESS), max_body_bytes=limit)


async def serve(name: str, folder: Path) -> None:
    """Serve until the standard input ends."""
    service = Service(settings.load(folder / "settings.yaml"))
    await service.authenticator.start()
    edge = edge_of(name, service)
    await edge.start()
    print(edge.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await edge.stop(0.1)
    await service.authenticator.stop()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
