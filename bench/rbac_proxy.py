"""kube-rbac-proxy beside ours: it asks the test API server, over its real wire, for both kinds of reviews.

It is no ext_authz server. It stands before an upstream, and its figures hold the proxying, too; so there is no limit
beside it. The right is that of the other servers but for the verb, which it derives from the method. Its caches have
their default times, and are warm: the check before the load has filled them.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.build_peers import BUILT, PEERS
from bench.subjects import LOAD_CORE, USER, Subject, free_port, running
from tests.apiserver import Account, Double
from tests.apiserver.manifests import binding, delegate, role, rule, user

NAME = "kube-rbac-proxy"
NOTE = "proxies, too"
REVIEWS = ("create tokenreviews", "create subjectaccessreviews")
RUNS = role("runs", rule(["get"], ["runs"], ["pipelines.kubeflow.org"]), namespace="team-a")
GRANT = binding("alice", "runs", user(USER), namespace="team-a", kind="Role")


@asynccontextmanager
async def before_upstream(folder: Path, token: str) -> AsyncIterator[tuple[Subject, Double]]:
    """Run what it needs; yield how it is run, and the API server, which knows the token."""
    of_its_own = folder / NAME
    of_its_own.mkdir()
    upstream = running((sys.executable, "-m", "bench.upstream"), core=LOAD_CORE)
    async with Double.running(of_its_own) as server:  # it sends its own token over TLS only
        server.accounts[token] = Account(USER, ("system:authenticated",))
        for manifest in (*delegate(), RUNS, GRANT):
            server.write(manifest)
        with upstream as behind:
            yield _subject(server.kubeconfig(), behind.port), server


def reviews(server: Double) -> int:
    """Return how many reviews the API server was asked for."""
    return sum(server.calls[name] for name in REVIEWS)


def _subject(kubeconfig: Path, upstream: int) -> Subject:
    port = free_port()
    command = (
        str(BUILT / NAME),
        f"--insecure-listen-address=127.0.0.1:{port}",  # without TLS, as the other servers
        f"--upstream=http://127.0.0.1:{upstream}",
        f"--kubeconfig={kubeconfig}",
        f"--config-file={PEERS / NAME / 'config.yaml'}",
    )
    return Subject(NAME, "http", "go-http", command, port, decides=True, note=NOTE)
