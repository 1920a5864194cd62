"""The console of a service, put together from the service's parts."""

from __future__ import annotations

from typing import Protocol

from extauthz.access.authority import Authority
from extauthz.console.app import Console
from extauthz.console.guard import Guard
from extauthz.console.pages import Pages, Parts
from extauthz.gateway import Gateway
from extauthz.identity import Authenticators
from extauthz.lookup.kfp import KfpLookup
from extauthz.observe.audit.recent import RecentDecisions
from extauthz.observe.history import History
from extauthz.observe.meter import MeteredGateway
from extauthz.settings import Settings
from extauthz.settings.page import ConsoleSettings
from extauthz.steps import Authenticator


class Service(Protocol):
    """What the console is told of a service."""

    settings: Settings
    gateway: MeteredGateway
    authenticator: Authenticators
    authority: Authority
    lookup: KfpLookup | None

    def blockers(self) -> list[str]:
        """Say why no check can be answered."""
        ...

    def warnings(self) -> list[str]:
        """Say what is wrong while checks are answered."""
        ...


def load(asked: ConsoleSettings, recent: RecentDecisions, service: Service) -> Console:
    """Build the console that settings ask for; `recent` is what the audit log tells."""
    settings, gateway = service.settings, service.gateway

    def asking(somebody: Authenticator) -> Gateway:
        return Gateway(
            policy=gateway.policy,
            authenticator=somebody,
            authorizer=service.authority,
            response=settings.response,
            lookup=service.lookup,
            deadline_seconds=settings.deadline_seconds,
        )

    parts = Parts(
        identity=settings.identity,
        gateway=gateway,
        asking=asking,
        authenticator=service.authenticator,
        authority=service.authority,
        lookup=service.lookup,
        recent=recent,
        history=History(gateway.meter),
        blockers=service.blockers,
        warnings=service.warnings,
        max_body_bytes=settings.body.max_request_bytes,
    )
    headers = dict.fromkeys(("authorization", *(issuer.header for issuer in settings.identity.jwt)))
    guard = Guard(service.authenticator, service.authority, headers=headers, hosts=asked.hosts)
    return Console(Pages(parts), guard, keep=parts.history.run)
