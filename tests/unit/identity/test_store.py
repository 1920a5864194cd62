"""The key store by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from extauthz.identity.keys import KeySourceError
from extauthz.identity.store import KeyStore
from extauthz.identity.web import Page
from extauthz.settings.identity import JwtIssuer
from tests.issuer import Clock, Issuer, ec_key


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


def test_a_new_store_has_nothing_to_verify_with(jwt_issuer: Callable[..., JwtIssuer]) -> None:
    """Neither keys nor a time for which they may serve."""

    async def fetch(_: Collection[str]) -> Page:
        raise AssertionError

    store = KeyStore(jwt_issuer(), fetch, clock=Clock(0))
    assert store.keys is store.latest is None
    assert store.serves_for < 0
    assert store.quiet_for == 0


async def test_single_keys_are_fetched_by_their_ids(jwt_issuer: Callable[..., JwtIssuer]) -> None:
    """Those that tokens named, and with them those that are known; nothing where there are none."""
    asked = []

    async def fetch(key_ids: Collection[str]) -> Page:
        asked.append(list(key_ids))
        return Page(Issuer(keys=[ec_key(key_id) for key_id in key_ids]).jwks())

    clock = Clock(0)
    keys = {"pemUrl": "https://keys.example/{kid}"}
    settings = jwt_issuer(keys=keys, header="x-token", algorithms=["ES256"], albSigner="arn:aws:elb")
    store = KeyStore(settings, fetch, clock=clock)
    await store.renew()
    assert (asked, store.failed, store.problem) == ([], 0, None)
    for key_id in ("a", "b", "a"):
        clock.now += 10
        await store.renew(key_id)
    assert asked == [["a"], ["a", "b"], ["a", "b"]]
    assert (store.fetched, store.failed) == (3, 0)


async def test_good_and_failed_fetches_are_counted(jwt_issuer: Callable[..., JwtIssuer]) -> None:
    """Each of them once, whatever went wrong."""
    answers: list[Page | Exception] = [
        Page(Issuer().jwks()),
        KeySourceError("down"),
        ValueError("a mistake"),
        Page(b"{}"),
        Page(Issuer().jwks()),
        ValueError("a mistake"),
    ]
    seen = []

    async def fetch(_: Collection[str]) -> Page:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    clock = Clock(0)
    store = KeyStore(jwt_issuer(), fetch, clock=clock)
    assert (store.fetched, store.failed) == (0, 0)
    while answers:
        await store.renew()
        seen.append((store.fetched, store.failed))
        clock.now += 10
    assert seen == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 3), (2, 4)]


async def test_an_unforeseen_error_is_no_reason_to_show(jwt_issuer: Callable[..., JwtIssuer]) -> None:
    """Its text may hold anything; the log has it."""

    async def fetch(_: Collection[str]) -> Page:
        raise ValueError("a secret")

    store = KeyStore(jwt_issuer(), fetch, clock=Clock(0))
    await store.renew()
    assert store.problem == "issuer https://idp.example has no keys: internal error"


async def test_keys_too_old_to_serve_are_called_so(jwt_issuer: Callable[..., JwtIssuer]) -> None:
    """No fetch failed, and none came in time."""

    async def fetch(_: Collection[str]) -> Page:
        return Page(Issuer().jwks())

    clock = Clock(0)
    store = KeyStore(jwt_issuer(), fetch, clock=clock)
    await store.renew()
    assert store.problem is None
    clock.now += 10**9
    assert store.problem == "issuer https://idp.example has no keys: too old"


async def test_stopping_waits_for_the_end_of_the_fetch(jwt_issuer: Callable[..., JwtIssuer]) -> None:
    """Nothing of it is left behind."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def fetch(_: Collection[str]) -> Page:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()
        return Page(b"")

    store = KeyStore(jwt_issuer(), fetch, clock=Clock(0))
    store.start()
    await begun.wait()
    await store.stop()
    assert ended.is_set()
