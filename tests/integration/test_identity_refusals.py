"""Refused sessions: remembered for a moment, and no longer; outages never."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from extauthz.errors import CredentialError, ExtauthzError, Refused, Unavailable
from tests.integration.sessions import World, opened
from tests.integration.sessions import world as world
from tests.issuer import NOW, asking
from tests.oauth2proxy import COOKIE


@pytest.mark.parametrize(("status", "kind"), [(401, CredentialError), (403, Refused)])
async def test_a_refused_cookie_is_not_asked_about_again_for_a_moment(
    world: World, status: int, kind: type[ExtauthzError]
) -> None:
    """Whoever repeats it gets the same answer, with his own way back, and costs no call; then it may be good."""
    world.proxy.status = status
    told = [await world.fault() for _ in range(3)]
    assert {type(fault) for fault in told} == {kind}
    assert len({str(fault) for fault in told}) == 1
    assert len(world.proxy.asked) == 1
    world.proxy.status = None
    world.clock.now += 5
    subject = await world.ask()
    assert subject is not None
    assert subject.user == "alice"


async def test_a_refusal_is_the_cookies_own(world: World) -> None:
    """A new login is asked about at once, and an old refusal does not end a session that is known."""
    await world.fault(f"{COOKIE}=stale")
    subject = await world.ask()
    assert subject is not None
    world.clock.now += 61
    assert await world.ask() == subject


@pytest.mark.parametrize("claims", [{"exp": NOW - 100}, {"aud": "other"}])
async def test_a_session_whose_token_is_refused_is_not_asked_about_again_for_a_moment(
    world: World, claims: dict[str, Any]
) -> None:
    """Its token is looked at anew each time, but oauth2-proxy is asked for another one only later."""
    world.proxy.sessions["one"] = world.issuer.token(**claims)
    reasons = {str(await world.fault()) for _ in range(3)}
    assert len(reasons) == 1
    assert len(world.proxy.asked) == 1
    world.proxy.sessions["one"] = world.issuer.token()
    world.clock.now += 5
    assert await world.ask() is not None


async def test_a_token_that_ends_is_no_refusal(world: World) -> None:
    """A session that was good is asked about at once when its token expires, however lately it was asked about."""
    world.proxy.sessions["one"] = world.issuer.token(exp=NOW - 27)  # good for three seconds of leeway
    await world.ask()
    world.proxy.sessions["one"] = world.issuer.token()
    world.clock.now += 4
    assert await world.ask() is not None
    assert len(world.proxy.asked) == 2


@pytest.mark.parametrize("status", [302, 429, 500, 503])
async def test_an_outage_is_not_remembered(world: World, status: int) -> None:
    """The next request asks again."""
    world.proxy.status = status
    for _ in range(2):
        assert isinstance(await world.fault(), Unavailable)
    world.proxy.status = None
    assert await world.ask() is not None
    assert len(world.proxy.asked) == 3


async def test_refusals_are_not_remembered_where_told(tmp_path: Path) -> None:
    """Each is asked about."""
    async with opened(tmp_path, refusedSeconds=0) as world:
        for _ in range(3):
            await world.fault(f"{COOKIE}=stale")
        assert len(world.proxy.asked) == 3


async def test_an_answer_that_came_before_the_wait_began_is_enough(world: World) -> None:
    """Two requests that were both to ask are one question, however late the second one begins to wait."""
    requests = [asking({"cookie": f"{COOKIE}={name}"}) for name in ("one", "one", "stale", "stale")]
    answers = [world.authenticators.authenticate(request) for request in requests]
    told = []
    for answer in answers:
        assert inspect.isawaitable(answer)
        try:
            told.append(getattr(await answer, "user", ""))
        except CredentialError as error:
            told.append(error.reason)
    assert told == ["alice", "alice", "session_invalid", "session_invalid"]
    assert len(world.proxy.asked) == 2
