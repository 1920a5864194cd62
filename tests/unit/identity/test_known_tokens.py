"""What is remembered of verified tokens, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from extauthz.errors import Unavailable
from tests.issuer import NOW, Issuer, asking, bearer, rsa_key
from tests.unit.identity.conftest import Desk

Opened = Callable[..., Desk]


async def test_a_known_token_is_answered_at_once(desk: Desk, issuer: Issuer) -> None:
    """After the first time, the very same subject comes back, with nothing to wait for."""
    headers = bearer(issuer.token())
    first = await desk.ask(headers)
    assert desk.authenticator.authenticate(asking(headers)) is first


async def test_only_verifications_are_counted(desk: Desk, issuer: Issuer) -> None:
    """A remembered token is not verified again, and a refused one is not verified."""
    assert desk.authenticator.verified == 0
    for number in (1, 2):
        headers = bearer(issuer.token(jti=str(number)))
        for _ in range(2):
            await desk.ask(headers)
            assert desk.authenticator.verified == number
    await desk.fault(bearer(issuer.token(sub="")))
    assert desk.authenticator.verified == 2


async def test_of_two_verifications_of_a_token_the_later_is_its_ground(desk: Desk, issuer: Issuer) -> None:
    """What rests on the earlier one, which is remembered no longer, rests on nothing."""
    headers = bearer(issuer.token())
    earlier, later = await asyncio.gather(desk.ask(headers), desk.ask(headers))
    assert earlier is not None
    assert earlier.ground is not None
    assert later is not None
    assert later.ground is not None
    assert later.ground.holds()
    assert not earlier.ground.holds()
    assert await desk.ask(headers) is later


async def test_nobody_can_change_what_a_remembered_token_says(desk: Desk, issuer: Issuer) -> None:
    """Each question about its claims reads the token anew."""
    headers = bearer(issuer.token(teams=["a"]))
    for _ in range(2):
        subject = await desk.ask(headers)
        assert subject is not None
        assert subject.claims["teams"] == ["a"]
        subject.claims["teams"].append("b")


async def test_jwt_036_a_known_token_expires(desk: Desk, issuer: Issuer) -> None:
    """A remembered token ends when verification would refuse it, to the second."""
    headers = bearer(issuer.token(exp=NOW + 1))
    first = await desk.ask(headers)
    desk.clock.now = NOW + 30.9
    assert desk.authenticator.authenticate(asking(headers)) is first
    desk.clock.now = NOW + 31
    assert await desk.fault(headers) == "token_expired"


async def test_a_known_token_is_verified_anew_in_time(opened: Opened, issuer: Issuer) -> None:
    """However long a token lives, it is remembered no longer than the settings say."""
    desk = Desk(opened().folder, issuer, max_cache_seconds=60)
    desk.open()
    headers = bearer(issuer.token())
    first = await desk.ask(headers)
    desk.clock.now += 59
    assert await desk.ask(headers) is first
    desk.clock.now += 1
    again = await desk.ask(headers)
    assert again == first
    assert again is not first


@pytest.mark.parametrize("limit", [0, 1])
async def test_only_so_many_tokens_are_known(opened: Opened, issuer: Issuer, limit: int) -> None:
    """Beyond the limit, the token used longest ago is forgotten; with none, nothing is remembered."""
    desk = Desk(opened().folder, issuer, max_cached_tokens=limit)
    desk.open()
    alice, bob = bearer(issuer.token()), bearer(issuer.token(sub="bob"))
    first, other = await desk.ask(alice), await desk.ask(bob)
    assert (await desk.ask(bob) is other) is (limit == 1)
    assert await desk.ask(alice) is not first
    assert first is not None
    assert first.ground is None or not first.ground.holds()  # what rests on the forgotten one is forgotten, too


async def test_dos_001_002_bad_tokens_are_not_remembered(opened: Opened, issuer: Issuer) -> None:
    """Refused tokens take no room from good ones."""
    desk = Desk(opened().folder, issuer, max_cached_tokens=1)
    desk.open()
    good = bearer(issuer.token())
    first = await desk.ask(good)
    for number in range(50):
        await desk.fault(bearer(f"random-{number}"))
        await desk.fault(bearer(issuer.token(exp=NOW - number - 100)))
        await desk.fault(bearer(issuer.token({"kid": f"random-{number}"})))
    assert await desk.ask(good) is first


async def test_a_known_token_ends_with_its_key(desk: Desk, issuer: Issuer) -> None:
    """Once a refresh shows that the issuer took a key back, tokens verified with it are refused."""
    old = bearer(issuer.token())
    assert await desk.ask(old)
    issuer.keys = [rsa_key("key-2")]
    desk.publish("0.json", issuer.jwks())
    desk.monotonic.now += 10
    assert await desk.ask(bearer(issuer.token()))
    assert await desk.fault(old) == "key_unknown"


async def test_a_refresh_without_a_change_forgets_nothing(desk: Desk, issuer: Issuer) -> None:
    """Keys fetched anew and found the same leave every remembered token in place."""
    good = bearer(issuer.token())
    first = await desk.ask(good)
    desk.monotonic.now += 100
    assert await desk.fault(bearer(issuer.token({"kid": "unknown"}))) == "key_unknown"
    assert desk.authenticator.authenticate(asking(good)) is first


async def test_a_known_token_does_not_outlive_stale_keys(opened: Opened, issuer: Issuer) -> None:
    """When the last good keys become too old to serve, tokens verified with them end as well."""
    desk = opened(keys={"refresh_seconds": 100, "timeout_seconds": 5, "max_stale_seconds": 0})
    good = bearer(issuer.token())
    await desk.ask(good)
    (desk.folder / "0.json").unlink()
    desk.clock.now += 104
    desk.monotonic.now += 104
    assert await desk.ask(good)
    desk.clock.now += 1
    desk.monotonic.now += 1
    with pytest.raises(Unavailable) as refused:
        await desk.ask(good)
    assert refused.value.reason == "keys_unavailable"
    assert refused.value.retry_after == 10
