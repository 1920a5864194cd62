"""The console of a service, put together from the service's parts."""

from __future__ import annotations

from collections.abc import Callable

from extauthz.access.authority import Authority
from extauthz.console.app import Console
from extauthz.console.guard import Guard
from extauthz.console.pages import Pages, Parts
from extauthz.gateway import Authenticator, Gateway
from extauthz.identity import Authenticators
from extauthz.lookup.kfp import KfpLookup
from extauthz.observe.audit.recent import RecentDecisions
from extauthz.observe.history import History
from extauthz.observe.meter import MeteredGateway
from extauthz.settings import ConsoleSettings, Settings


def load(
    asked: ConsoleSettings,
    settings: Settings,
    *,
    gateway: MeteredGateway,
    authenticator: Authenticators,
    authority: Authority,
    lookup: KfpLookup | None,
    recent: RecentDecisions,
    blockers: Callable[[], list[str]],
    warnings: Callable[[], list[str]],
) -> Console:
    """Build the console that settings ask for. `recent` is what the audit log tells."""

    def asking(somebody: Authenticator) -> Gateway:
        return Gateway(
            policy=gateway.policy,
            authenticator=somebody,
            authorizer=authority,
            response=settings.response,
            lookup=lookup,
            deadline_seconds=settings.deadline_seconds,
        )

    parts = Parts(
        identity=settings.identity,
        gateway=gateway,
        asking=asking,
        authenticator=authenticator,
        authority=authority,
        lookup=lookup,
        recent=recent,
        history=History(gateway.meter),
        blockers=blockers,
        warnings=warnings,
        max_body_bytes=settings.body.max_request_bytes,
    )
    headers = dict.fromkeys(("authorization", *(issuer.header for issuer in settings.identity.jwt)))
    guard = Guard(authenticator, authority, headers=headers, hosts=asked.hosts)
    return Console(Pages(parts), guard, keep=parts.history.run)
