"""The key store by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection

from extauthz.identity.store import KeyStore
from extauthz.identity.web import Page
from extauthz.settings.identity import JwtIssuer
from tests.issuer import Clock, Issuer


async def test_the_store_itself_holds_the_cooldown(jwt_issuer: Callable[..., JwtIssuer]) -> None:
    """However often a renewal is asked for, each cool-down sees one fetch."""
    fetches = []

    async def fetch(_: Collection[str]) -> Page:
        fetches.append(1)
        return Page(Issuer().jwks())

    clock = Clock(0)
    store = KeyStore(jwt_issuer(), fetch, clock=clock)
    for _ in range(3):
        await store.renew()
    assert len(fetches) == 1
    clock.now = 10
    await store.renew()
    assert len(fetches) == 2
    await store.stop()
