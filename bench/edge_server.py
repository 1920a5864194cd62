"""The whole service with one edge, in a process of its own: `python -m bench.edge_server EDGE FOLDER`.

The folder holds `settings.yaml`. Everything is on: metrics, audit log, readiness, policy watch.
Reviews are kept as they are before a cluster. The process prints its port and serves until its
standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import uvloop

from extauthz import settings
from extauthz.access.authority import Authority
from extauthz.access.cache import CachedAuthorizer
from extauthz.access.generations import Generations
from extauthz.review import Attributes, Review
from extauthz.service import Service
from extauthz.settings import ReviewCacheSettings, Settings
from extauthz.settings.listeners import GrpcListener, HttpListener, Listeners
from extauthz.subject import Subject

ADDRESS = "127.0.0.1:0"


class Asked:
    """Reviews as a cluster gives them: they must be awaited, and are worth keeping."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def review(self, subject: Subject, attributes: Attributes) -> Review:
        answer = self._authority.review(subject, attributes)
        return answer if isinstance(answer, Review) else await answer


def cached(authority: Authority, *, max_entries: int = 100_000) -> CachedAuthorizer:
    """Return the cache that stands before a cluster, with a watch that sees every change."""
    generations = Generations()
    generations.watched = True
    cache = ReviewCacheSettings(allow_seconds=3600, max_entries=max_entries, max_bytes=4 * 1024**3)
    return CachedAuthorizer(Asked(authority), cache, generations)


def with_edge(name: str, loaded: Settings) -> Settings:
    """Return settings with this edge alone."""
    grpc = GrpcListener(address=ADDRESS, server="native" if name.startswith("native") else "grpcio")
    http = HttpListener(address=ADDRESS, server="native" if name.startswith("native") else "aiohttp")
    only = {"grpc": grpc, "http": None} if name in ("grpcio", "native-grpc") else {"grpc": None, "http": http}
    listeners = Listeners(admin=loaded.listeners.admin, **only)
    return loaded.model_copy(update={"listeners": listeners})


async def serve(name: str, folder: Path) -> None:
    """Serve until the standard input ends."""
    loaded = settings.load(folder / "settings.yaml")
    service = Service(with_edge(name, loaded))
    service.gateway.authorizer = cached(service.authority)
    await service.start()
    print(service.grpc_port or service.http_port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await service.stop(0.1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
