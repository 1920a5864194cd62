"""The life of the service: build, start, serve, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import Metric

from extauthz.background import keep_running
from extauthz.console import load as console
from extauthz.edge.admin import AdminEdge, Readiness
from extauthz.edge.listen import Bound, Listening
from extauthz.edge.native import grpc as native_grpc
from extauthz.edge.native import http as native_http
from extauthz.edge.reply import Refusals
from extauthz.edge.tls import Certificates
from extauthz.loading import (
    load_audit_writer,
    load_authenticator,
    load_authority,
    load_certificates,
    load_lookup,
    load_policy,
    load_tracing,
)
from extauthz.observe import families
from extauthz.observe.audit.log import AuditLog
from extauthz.observe.audit.mask import Mask
from extauthz.observe.audit.recent import RecentDecisions
from extauthz.observe.meter import MeteredGateway
from extauthz.observe.metrics import Metrics
from extauthz.policy import Policy
from extauthz.policy.reload import PolicyWatch
from extauthz.settings import Settings
from extauthz.settings.listeners import GrpcListener, HttpListener, Listeners

if TYPE_CHECKING:
    from extauthz.edge.grpc import GrpcEdge
    from extauthz.edge.http import HttpEdge


READINESS_SECONDS = 0.25
"""How often gRPC health is made to say what `/readyz` says; some of what it depends on tells nobody of changes."""

_logger = logging.getLogger(__name__)


def _bound(listeners: Listeners, certificates: Mapping[str, Certificates]) -> dict[str, Listening]:
    """Return the listeners' own addresses as sources of connections."""
    named = {"grpc": listeners.grpc, "http": listeners.http, "admin": listeners.admin}
    return {name: Bound(listener.address, certificates.get(name)) for name, listener in named.items() if listener}


class Service:
    """One running instance. Ports are known after `start`."""

    def __init__(self, settings: Settings, *, listening: Mapping[str, Listening] | None = None) -> None:
        """Load everything that can be wrong. Raises ConfigurationError.

        `listening` says where the connections of `grpc`, `http` and `admin` come from instead of their addresses.
        """
        self.settings = settings
        self.certificates = load_certificates(settings)
        sources = {**_bound(settings.listeners, self.certificates), **(listening or {})}
        self.authenticator = load_authenticator(settings)
        self.authority = load_authority(settings)
        self.lookup = load_lookup(settings)
        self._tracing = load_tracing(settings)
        self.gateway = self._load_gateway()
        self._audit_writer = load_audit_writer(settings)
        asked = settings.listeners.admin.console
        recent = RecentDecisions(asked.keep_decisions) if asked else None
        if self._audit_writer or recent:
            self.gateway.observer = self._audit_log(recent)
        self._console = console.load(asked, recent, self) if asked and recent else None
        listeners = settings.listeners
        refusals = Refusals(settings.response.refusal_page, self.authority.owner)
        self._grpc = self._grpc_edge(listeners.grpc, refusals, sources["grpc"]) if listeners.grpc else None
        self._http = self._http_edge(listeners.http, refusals, sources["http"]) if listeners.http else None
        self._watch = PolicyWatch(
            [settings.resolve(path) for path in settings.policy.paths],
            load=lambda: load_policy(settings),
            changed=self._replace_policy,
        )
        self.metrics = Metrics(
            self.gateway.meter, self.authority, lambda: not self.blockers(), more=list(self._families())
        )
        self._admin = AdminEdge(
            sources["admin"],
            readiness=self._readiness,
            metrics=self._exposition,
            console=self._console.application() if self._console else None,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._state = "starting"

    def _load_gateway(self) -> MeteredGateway:
        kind = self._tracing.gateway if self._tracing else MeteredGateway
        return kind(
            policy=load_policy(self.settings),
            authenticator=self.authenticator,
            authorizer=self.authority,
            response=self.settings.response,
            lookup=self.lookup,
            deadline_seconds=self.settings.deadline_seconds,
            together_seconds=self.settings.access.settling_seconds,
        )

    def _grpc_edge(
        self, listener: GrpcListener, refusals: Refusals, listening: Listening
    ) -> GrpcEdge | native_grpc.GrpcEdge:
        limit, certificates = self.settings.body.max_request_bytes, self.certificates.get("grpc")
        if listener.server == "native":
            return native_grpc.GrpcEdge(
                self.gateway, listener, max_body_bytes=limit, refusals=refusals, listening=listening
            )
        from extauthz.edge.grpc import GrpcEdge  # grpcio takes 8 MB

        return GrpcEdge(self.gateway, listener, max_body_bytes=limit, refusals=refusals, certificates=certificates)

    def _http_edge(
        self, listener: HttpListener, refusals: Refusals, listening: Listening
    ) -> HttpEdge | native_http.HttpEdge:
        limit, certificates = self.settings.body.max_request_bytes, self.certificates.get("http")
        if listener.server == "native":
            return native_http.HttpEdge(
                self.gateway, listener, max_body_bytes=limit, refusals=refusals, listening=listening
            )
        from extauthz.edge.http import HttpEdge

        return HttpEdge(self.gateway, listener, max_body_bytes=limit, refusals=refusals, certificates=certificates)

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
        if self.certificates:
            yield partial(families.certificates, self.certificates)
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
        found += (each.problem for each in self.certificates.values() if each.problem)
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
        self._tasks.append(asyncio.create_task(keep_running("policy watch", self._watch.run)))
        for name, certificates in self.certificates.items():
            work = keep_running(f"certificates of {name}", certificates.run)
            self._tasks.append(asyncio.create_task(work))
        if self._console:
            self._tasks.append(asyncio.create_task(keep_running("console", self._console.keep)))
        if self._grpc:
            await self._grpc.set_ready(False)
            await self._grpc.start()
        if self._http:
            await self._http.start()
        self._state = ""
        self._tasks.append(asyncio.create_task(keep_running("readiness", self._follow_readiness)))

    async def drain(self, hurry: asyncio.Event) -> None:
        """Say that this is not ready, but answer checks until Envoys have turned away: `drainSeconds`, or `hurry`."""
        self._state = "draining"
        if self._grpc:
            await self._grpc.set_ready(False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.shutdown.drain_seconds):
                await hurry.wait()

    async def stop(self, grace: float | None = None) -> None:
        """Finish the checks under way within `grace` seconds (by default the settings'), then release everything."""
        grace = self.settings.shutdown.grace_seconds if grace is None else grace
        self._state = "stopping"
        self._watch.stop()
        if self._grpc:
            await self._grpc.set_ready(False)
        await asyncio.gather(*(edge.stop(grace) for edge in (self._grpc, self._http) if edge))
        await self._admin.stop()
        if self.lookup:
            await self.lookup.stop()
        await self.authority.stop()
        await self.authenticator.stop()
        if self._audit_writer:
            await asyncio.to_thread(self._audit_writer.stop)
        if self._tracing:
            await asyncio.to_thread(self._tracing.stop)
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

    async def _readiness(self) -> Readiness:
        return Readiness(self.blockers(), self.warnings())

    async def _exposition(self, accept: str) -> tuple[bytes, str]:
        return self.metrics.exposition(accept)

    def _replace_policy(self, loaded: Policy) -> None:
        self.gateway.policy = loaded
        _warn(loaded)


def _warn(loaded: Policy) -> None:
    for warning in loaded.warnings:
        _logger.warning("%s", warning)
