"""The life of the service: build, start, serve, stop.

`build_gateway` is what the CLI and the server share, so that both decide alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import Metric

from extauthz import policy
from extauthz.access import authority
from extauthz.access.authority import Authority
from extauthz.console import load as console
from extauthz.edge.admin import AdminEdge
from extauthz.edge.grpc import GrpcEdge
from extauthz.edge.http import HttpEdge
from extauthz.edge.listen import Listening
from extauthz.edge.native import grpc as native_grpc
from extauthz.edge.native import http as native_http
from extauthz.edge.reply import Refusals
from extauthz.gateway import Gateway
from extauthz.identity import Authenticators
from extauthz.lookup import kfp
from extauthz.lookup.artifact import namespace_of_key
from extauthz.lookup.kfp import KfpLookup
from extauthz.lookup.viewer import namespace_of_token
from extauthz.observe import families
from extauthz.observe.audit.log import AuditLog
from extauthz.observe.audit.mask import Mask
from extauthz.observe.audit.recent import RecentDecisions
from extauthz.observe.audit.writer import AuditWriter
from extauthz.observe.meter import MeteredGateway
from extauthz.observe.metrics import Metrics
from extauthz.policy import Policy
from extauthz.policy.reload import PolicyWatch
from extauthz.settings import GrpcListener, HttpListener, Settings

KEYS = {"artifact": namespace_of_key, "viewer": namespace_of_token}
"""The kinds of keys that a policy may name in `key:KIND:SOURCE`."""

LOOKUPS = kfp.KINDS
"""The kinds of objects that a policy may name in `lookup:KIND:SOURCE` where the settings say whom to ask."""

RESTART_SECONDS = 1.0

READINESS_SECONDS = 0.25
"""How often gRPC health is made to say what `/readyz` says; some of what it depends on tells nobody of changes."""

_logger = logging.getLogger(__name__)


def load_policy(settings: Settings, instead: Sequence[Path] = ()) -> Policy:
    """Load the policy that settings name, or `instead` of it others. Raises ConfigurationError."""
    lookups = LOOKUPS if settings.lookups.kfp else ()
    paths = instead or [settings.resolve(path) for path in settings.policy.paths]
    session = settings.identity.session
    return policy.load(
        paths,
        KEYS,
        lookups,
        placement=settings.policy.placement,
        hosts=settings.policy.hosts,
        values=settings.policy.values,
        session_cookie=session.cookie if session else "",
    )


def load_lookup(settings: Settings) -> KfpLookup | None:
    """Build the lookup that settings name, or None. Raises ConfigurationError."""
    return KfpLookup(settings.lookups.kfp, resolve=settings.resolve) if settings.lookups.kfp else None


def load_authority(settings: Settings) -> Authority:
    """Build the authority that settings name. Raises ConfigurationError."""
    return authority.of(settings.access, settings.resolve)


def load_authenticator(settings: Settings) -> Authenticators:
    """Build the authenticators that settings name."""
    asked = settings.identity.token_review
    if asked is None:
        return Authenticators(settings.identity, resolve=settings.resolve)
    # This brings the kubernetes package, which everybody else does without.
    from extauthz.access.kubernetes.tokenreview import TokenReviews

    reviewer = TokenReviews(asked, kubeconfig=settings.resolve(asked.kubeconfig) if asked.kubeconfig else None)
    return Authenticators(settings.identity, resolve=settings.resolve, reviewer=reviewer)


def load_audit_writer(settings: Settings) -> AuditWriter | None:
    """Build the writer of the audit log that settings name, or None."""
    audit = settings.audit
    if audit.output == "off":
        return None
    file = settings.resolve(audit.file) if audit.file else None
    return AuditWriter(file, queue_records=audit.queue_records)


def _grpc_edge(
    gateway: Gateway, listener: GrpcListener, refusals: Refusals, limit: int, listening: Listening | None
) -> GrpcEdge | native_grpc.GrpcEdge:
    if listener.server == "native":
        return native_grpc.GrpcEdge(gateway, listener, max_body_bytes=limit, refusals=refusals, listening=listening)
    return GrpcEdge(gateway, listener, max_body_bytes=limit, refusals=refusals)


def _http_edge(
    gateway: Gateway, listener: HttpListener, refusals: Refusals, limit: int, listening: Listening | None
) -> HttpEdge | native_http.HttpEdge:
    if listener.server == "native":
        return native_http.HttpEdge(gateway, listener, max_body_bytes=limit, refusals=refusals, listening=listening)
    return HttpEdge(gateway, listener, max_body_bytes=limit, refusals=refusals)


class Service:
    """One running instance. Ports are known after `start`."""

    def __init__(self, settings: Settings, *, listening: Mapping[str, Listening] | None = None) -> None:
        """Load everything that can be wrong. Raises ConfigurationError.

        `listening` says where the connections of `grpc`, `http` and `admin` come from instead of their addresses.
        """
        elsewhere = listening or {}
        self.settings = settings
        self.authenticator = load_authenticator(settings)
        self.authority = load_authority(settings)
        self.lookup = load_lookup(settings)
        self.gateway = MeteredGateway(
            policy=load_policy(settings),
            authenticator=self.authenticator,
            authorizer=self.authority,
            response=settings.response,
            lookup=self.lookup,
            deadline_seconds=settings.deadline_seconds,
        )
        self._audit_writer = load_audit_writer(settings)
        asked = settings.listeners.admin.console
        recent = RecentDecisions(asked.keep_decisions) if asked else None
        if self._audit_writer or recent:
            self.gateway.observer = self._audit_log(recent).observe
        self._console = console.load(asked, recent, self) if asked and recent else None
        limit = settings.body.max_request_bytes
        listeners = settings.listeners
        refusals = Refusals(settings.response.refusal_page, self.authority.owner)
        grpc, http = listeners.grpc, listeners.http
        self._grpc = _grpc_edge(self.gateway, grpc, refusals, limit, elsewhere.get("grpc")) if grpc else None
        self._http = _http_edge(self.gateway, http, refusals, limit, elsewhere.get("http")) if http else None
        self._watch = PolicyWatch(
            [settings.resolve(path) for path in settings.policy.paths],
            load=lambda: load_policy(settings),
            changed=self._replace_policy,
        )
        self.metrics = Metrics(
            self.gateway.meter, self.authority, lambda: not self.blockers(), more=list(self._families())
        )
        self._admin = AdminEdge(
            listeners.admin,
            blockers=self.blockers,
            warnings=self.warnings,
            metrics=self.metrics.exposition,
            console=self._console.application() if self._console else None,
            listening=elsewhere.get("admin"),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._state = "starting"

    def _audit_log(self, recent: RecentDecisions | None) -> AuditLog:
        audit = self.settings.audit
        mask = Mask(audit.masks)
        return AuditLog(
            self.gateway, writer=self._audit_writer, recent=recent, allow_share=audit.allow_share, mask=mask
        )

    def _families(self) -> Iterator[Callable[[], Iterable[Metric]]]:
        """Yield the metrics of each part that there is."""
        yield partial(families.policy, self._watch)
        yield partial(families.tokens, self.authenticator.tokens)
        if self.lookup:
            yield partial(families.lookups, self.lookup)
        if self._audit_writer:
            yield partial(families.audit, self._audit_writer)

    @property
    def grpc_port(self) -> int | None:
        """The gRPC edge's port, or None where it is off."""
        return self._grpc.port if self._grpc else None

    @property
    def http_port(self) -> int | None:
        """The HTTP edge's port, or None where it is off."""
        return self._http.port if self._http else None

    @property
    def admin_port(self) -> int:
        """The admin listener's port."""
        return self._admin.port

    def blockers(self) -> list[str]:
        """Say why no check can be answered, in sentences; empty when ready."""
        if self._state == "stopping":
            return [self._state]
        state = [self._state] if self._state else []
        return [*state, *self.authenticator.problems(), *self.authority.blockers()]

    def warnings(self) -> list[str]:
        """Say what is wrong while the last good state serves."""
        found = [self._watch.problem] if self._watch.problem else []
        found += (str(warning) for warning in self.gateway.policy.warnings)
        found += [self._audit_writer.problem] if self._audit_writer and self._audit_writer.problem else []
        return found + self.authority.warnings()

    async def start(self) -> None:
        """Start the background work, then listen. Raises ConfigurationError when an address is taken.

        The admin listener is first, so that whatever takes long can be read there.
        """
        _warn(self.gateway.policy)
        await self._admin.start()
        if self._audit_writer:
            self._audit_writer.start()
        await self.authenticator.start()
        await self.authority.start()
        if self.lookup:
            await self.lookup.start()
        self._tasks.append(asyncio.create_task(_keep_running("policy watch", self._watch.run)))
        if self._console:
            self._tasks.append(asyncio.create_task(_keep_running("console", self._console.keep)))
        if self._grpc:
            await self._grpc.set_ready(False)
            await self._grpc.start()
        if self._http:
            await self._http.start()
        self._state = ""
        self._tasks.append(asyncio.create_task(_keep_running("readiness", self._follow_readiness)))

    async def stop(self, grace: float = 5.0) -> None:
        """Finish the checks under way within `grace` seconds, then release everything."""
        self._state = "stopping"
        self._watch.stop()
        if self._grpc:
            await self._grpc.set_ready(False)
            await self._grpc.stop(grace)
        if self._http:
            await self._http.stop(grace)
        await self._admin.stop()
        if self.lookup:
            await self.lookup.stop()
        await self.authority.stop()
        await self.authenticator.stop()
        if self._audit_writer:
            await asyncio.to_thread(self._audit_writer.stop)
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _follow_readiness(self) -> None:
        """Let gRPC health say what `/readyz` says."""
        told = False
        while self._grpc and self._state != "stopping":
            ready = not self.blockers()
            if ready is not told:
                told = ready
                await self._grpc.set_ready(ready)
            await asyncio.sleep(READINESS_SECONDS)

    def _replace_policy(self, loaded: Policy) -> None:
        self.gateway.policy = loaded
        _warn(loaded)


def _warn(loaded: Policy) -> None:
    for warning in loaded.warnings:
        _logger.warning("%s", warning)


async def _keep_running(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run background work and start it again when it fails; it ends when it returns."""
    while True:
        try:
            return await run()
        except Exception:
            _logger.exception("%s failed; it starts again in %s s", name, RESTART_SECONDS)
            await asyncio.sleep(RESTART_SECONDS)
