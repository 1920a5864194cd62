"""Who has the last word on rights, with its whole life: the embedded evaluator or a cluster.

An authority answers reviews, starts and stops, and says in sentences why it cannot answer
(`blockers`) and what is wrong while it still answers (`warnings`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from extauthz import settings
from extauthz.access import rbac
from extauthz.access.owners import Owners
from extauthz.basis import ALWAYS
from extauthz.errors import Unavailable
from extauthz.review import Attributes, NonResourceAttributes, Review
from extauthz.subject import Subject

if TYPE_CHECKING:
    from extauthz.access.cache import Reviewer
    from extauthz.access.local import LocalAuthorizer

PROBE_SECONDS = 1.0
"""The pause between two first reviews while the API server does not answer."""

_PROBE = (Subject.authenticated("extauthz:probe"), NonResourceAttributes("get", "/extauthz-probe"))

_logger = logging.getLogger(__name__)


class Authority(Protocol):
    """Whoever decides on rights."""

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        """Return the review, or an awaitable of it. Raises Unavailable."""
        ...

    async def start(self) -> None:
        """Get ready to answer. Raises ConfigurationError."""
        ...

    async def stop(self) -> None:
        """Answer whoever still waits, then release everything."""
        ...

    def blockers(self) -> list[str]:
        """Say why no review can be answered."""
        ...

    def warnings(self) -> list[str]:
        """Say what is wrong while reviews are answered."""
        ...

    def owner(self, namespace: str) -> str:
        """Return whose a namespace is, empty where that is not known. It gives no right."""
        ...


def of(access: settings.Access, resolve: Callable[[Path], Path]) -> Authority:
    """Build the authority that settings name. Raises ConfigurationError."""
    if access.rbac is not None:
        return Embedded([resolve(path) for path in access.rbac.manifests])
    cluster = access.kubernetes or settings.KubernetesAuthorizer()
    return Cluster(cluster, kubeconfig=resolve(cluster.kubeconfig) if cluster.kubeconfig else None)


class Embedded:
    """RBAC manifests, evaluated in the process."""

    def __init__(self, manifests: list[Path]) -> None:
        known = Owners()
        self.review = rbac.RbacAuthorizer(rbac.load(manifests, known.apply), ground=ALWAYS).review
        self.owner = known.of

    async def start(self) -> None:
        """Nothing is to be started."""

    async def stop(self) -> None:
        """Nothing is to be stopped."""

    def blockers(self) -> list[str]:
        """Manifests that loaded can always answer."""
        return []

    def warnings(self) -> list[str]:
        """Manifests that loaded have nothing to say."""
        return []


class Cluster:
    """An API server, behind a cache that the RBAC watch keeps honest.

    Where settings say so (`local`), what the watch sees is evaluated here; the cache then stands behind that.
    """

    def __init__(self, limits: settings.KubernetesAuthorizer, *, kubeconfig: Path | None) -> None:
        self._limits = limits
        self._kubeconfig = kubeconfig
        self._stack = contextlib.AsyncExitStack()
        self.started = False
        self._problem = ""
        self.local: LocalAuthorizer | None = None
        self._owners = Owners()
        self.owner = self._owners.of
        self.answered = asyncio.Event()
        """Set once the API server has answered a review."""

    async def start(self) -> None:
        """Connect, watch, and try one review in the background. Raises ConfigurationError."""
        # These bring the kubernetes package, which the embedded evaluator does without.
        from extauthz.access.cache import CachedAuthorizer
        from extauthz.access.generations import Generations
        from extauthz.access.kubernetes.connection import Connection
        from extauthz.access.kubernetes.reviews import KubernetesAuthorizer
        from extauthz.access.local import LocalAuthorizer
        from extauthz.access.watch import RbacWatch

        limits = self._limits
        connection = await Connection.open(
            kubeconfig=self._kubeconfig,
            context=limits.context,
            max_connections=limits.max_concurrent_reviews + _WATCH_CONNECTIONS,
        )
        self._stack.push_async_callback(connection.close)
        generations = Generations()
        self.reviews = KubernetesAuthorizer(connection, limits, tell=generations.tell_answering)
        self.cached = CachedAuthorizer(self.reviews, limits.cache, generations)
        self._authorizer: Reviewer = self.cached
        settling = limits.cache.settling_seconds
        if limits.local:
            self._authorizer = self.local = LocalAuthorizer(
                generations,
                fallback=self.cached,
                real=self.reviews,
                sample=limits.local.verify_sample,
                settling_seconds=settling,
            )
            self._stack.push_async_callback(self.local.close)
        self.watch = RbacWatch(
            connection,
            limits.watch,
            generations,
            settling_seconds=settling,
            sink=self.local,
            namespaces=self._owners,
        )
        self.watch.start()
        self._stack.push_async_callback(self.watch.close)
        self._stack.push_async_callback(self.cached.close)
        probe = asyncio.create_task(self._probe(), name="first review")
        self._stack.push_async_callback(_cancelled, probe)
        self.started = True

    async def stop(self) -> None:
        """Answer whoever still waits, then close all connections."""
        self.started = False
        await self._stack.aclose()

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        """Return the kept review, or ask. Raises Unavailable."""
        if not self.started:
            raise Unavailable("authorizer_stopped", "No reviews are asked now.")
        return self._authorizer.review(subject, attributes)

    def blockers(self) -> list[str]:
        """Say why no review was ever answered."""
        if not self.started:
            return ["the API server is not connected"]
        return [] if self.answered.is_set() else [f"the API server has not answered a review yet{self._problem}"]

    def warnings(self) -> list[str]:
        """Say what the API server refuses, which changes the watch does not see, and why nothing is evaluated here."""
        if not self.started:
            return []
        return [*self.reviews.problems(), *self.watch.problems(), *(self.local.problems() if self.local else [])]

    async def _probe(self) -> None:
        """Ask until there is a first answer, since only then is the service of use."""
        while True:
            try:
                await self.reviews.review(*_PROBE)
            except Unavailable as error:
                self._problem = f": {error.message}"
                await asyncio.sleep(PROBE_SECONDS)
            else:
                self.answered.set()
                _logger.info("the API server answers reviews")
                return


_WATCH_CONNECTIONS = 10


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
