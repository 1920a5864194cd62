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
from extauthz.access.authority import Authority
from extauthz.access.cache import CachedAuthorizer
from extauthz.access.generations import Generations
from extauthz.edge import grpc, http
from extauthz.edge.native import grpc as native_grpc
from extauthz.edge.native import http as native_http
from extauthz.listener_settings import GrpcListener, HttpListener
from extauthz.review import Attributes, Review
from extauthz.service import Service
from extauthz.settings import ReviewCacheSettings
from extauthz.subject import Subject

ADDRESS = "127.0.0.1:0"


class Edge(Protocol):
    """What is measured."""

    @property
    def port(self) -> int: ...
    async def start(self) -> None: ...
    async def stop(self, grace: float) -> None: ...


class Asked:
    """Reviews as a cluster gives them: they must be awaited, and are worth keeping."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def review(self, subject: Subject, attributes: Attributes) -> Review:
        answer = self._authority.review(subject, attributes)
        return answer if isinstance(answer, Review) else await answer


def cached(authority: Authority) -> CachedAuthorizer:
    """Return the cache that stands before a cluster, with a watch that sees every change."""
    generations = Generations()
    generations.watched = True
    return CachedAuthorizer(Asked(authority), ReviewCacheSettings(allow_seconds=3600), generations)


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
    service.gateway.authorizer = cached(service.authority)
    edge = edge_of(name, service)
    await edge.start()
    print(edge.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await edge.stop(0.1)
    await service.authenticator.stop()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
