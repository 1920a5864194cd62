"""Sessions of oauth2-proxy: a cookie becomes the user of its token, and nobody else."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from extauthz.errors import CredentialError, Refused, Unavailable
from tests.integration.sessions import LOGIN, World, opened
from tests.integration.sessions import world as world
from tests.issuer import NOW, Issuer, asking, bearer, rsa_key
from tests.oauth2proxy import COOKIE, OAuth2Proxy


async def test_a_cookie_becomes_the_user_of_its_token(world: World) -> None:
    """The token is verified like any other, and told upstream as the client never sent it."""
    subject = await world.ask()
    assert subject is not None
    assert (subject.user, subject.authenticator) == ("alice", "session")
    assert subject.ground is None  # the session may end before its token does
    assert subject.credential == (("authorization", f"Bearer {world.proxy.sessions['one']}"),)
    assert world.proxy.sessions["one"] not in repr(subject)


async def test_only_the_sessions_own_cookies_are_sent_on(world: World) -> None:
    """What else the browser holds is no business of oauth2-proxy's, however headers were joined."""
    await world.ask(f"a=1,{COOKIE}=one; {COOKIE}_csrf=x; other={COOKIE}=two")
    assert world.proxy.asked == [{COOKIE: "one"}]


async def test_a_session_in_parts_is_put_together(world: World) -> None:
    """oauth2-proxy splits long sessions into cookies with numbers."""
    world.proxy.sessions["ab"] = world.issuer.token(sub="carol")
    subject = await world.ask(f"{COOKIE}_1=b; {COOKIE}_0=a")
    assert subject is not None
    assert subject.user == "carol"


async def test_the_access_token_header_is_read_where_told(tmp_path: Path) -> None:
    """It carries the token without a scheme."""
    async with opened(tmp_path, tokenHeader="x-auth-request-access-token") as world:
        world.proxy.header = "x-auth-request-access-token"
        subject = await world.ask()
    assert subject is not None
    assert dict(subject.credential)["authorization"].startswith("Bearer ey")


async def test_a_known_session_is_not_asked_for_again(world: World) -> None:
    """Until its setting ends; then oauth2-proxy has the word again."""
    first = await world.ask()
    assert world.authenticators.authenticate(asking({"cookie": f"{COOKIE}=one"})) is first
    world.clock.now += 60
    assert await world.ask() == first
    assert len(world.proxy.asked) == 2
    del world.proxy.sessions["one"]
    world.clock.now += 61
    assert (await world.fault()).login == LOGIN  # type: ignore[attr-defined]  # a CredentialError


async def test_a_session_ends_with_its_token(tmp_path: Path) -> None:
    """However long a session may be kept, an expired token is asked about again, and a new one taken."""
    async with opened(tmp_path, maxCacheSeconds=3600) as world:
        world.proxy.sessions["one"] = world.issuer.token(exp=NOW + 100)
        await world.ask()
        world.clock.now += 131
        world.proxy.sessions["one"] = world.issuer.token(exp=NOW + 1000)
        subject = await world.ask()
        assert subject is not None
        assert subject.expires == NOW + 1000
        assert len(world.proxy.asked) == 2


async def test_an_expired_token_leads_to_the_login(world: World) -> None:
    """Only a new login helps."""
    world.proxy.sessions["one"] = world.issuer.token(exp=NOW - 100)
    fault = await world.fault()
    assert isinstance(fault, CredentialError)
    assert (fault.reason, fault.login) == ("session_invalid", LOGIN)


async def test_a_token_that_login_would_not_mend_leads_nowhere(world: World) -> None:
    """A browser sent to log in again and again would turn in a circle."""
    world.proxy.sessions["one"] = world.issuer.token(aud="other")
    fault = await world.fault()
    assert isinstance(fault, CredentialError)
    assert (fault.reason, fault.login) == ("audience_mismatch", "")


async def test_a_forged_token_behind_a_session_is_refused(world: World) -> None:
    """Whoever stands in for oauth2-proxy cannot invent users."""
    forger = Issuer(keys=[rsa_key("key-2")])
    world.proxy.sessions["one"] = forger.token({"kid": "key-1"})
    fault = await world.fault()
    assert isinstance(fault, CredentialError)
    assert fault.reason == "signature_invalid"


async def test_a_known_sessions_token_that_expires_while_its_keys_are_fetched_leads_to_the_login(world: World) -> None:
    """As it does at any other moment."""
    await world.ask()
    world.issuer.keys = [rsa_key("key-2")]
    world.jwks.write_bytes(world.issuer.jwks())
    await world.ask(None, **bearer(world.issuer.token()))  # brings a set without the session's key
    world.clock.now += 10
    answer = world.authenticators.authenticate(asking({"cookie": f"{COOKIE}=one"}))
    assert inspect.isawaitable(answer)
    world.clock.now += 3621
    with pytest.raises(CredentialError) as refused:
        await answer
    assert (refused.value.reason, refused.value.login) == ("session_invalid", LOGIN)


@pytest.mark.parametrize(("published", "outcome"), [(True, "alice"), (False, "key_unknown")])
async def test_a_known_session_waits_for_its_issuers_keys(world: World, published: bool, outcome: str) -> None:
    """Where its token's key went away, the keys are fetched once more, and oauth2-proxy is not asked."""
    await world.ask()
    old = world.issuer.keys
    world.issuer.keys = [rsa_key("key-2")]
    world.jwks.write_bytes(world.issuer.jwks())
    await world.ask(None, **bearer(world.issuer.token()))  # brings the new set
    world.issuer.keys = [*world.issuer.keys, *(old if published else ())]
    world.jwks.write_bytes(world.issuer.jwks())
    world.clock.now += 10
    try:
        subject = await world.ask()
        told = subject.user if subject else ""
    except CredentialError as error:
        told = error.reason
    assert told == outcome
    assert len(world.proxy.asked) == 1


async def test_concurrent_requests_of_a_session_are_one_question(world: World) -> None:
    """A page with fifty pictures asks once, and a picture that is cancelled takes nobody along."""
    world.proxy.hold = asyncio.Event()
    asking_all = [asyncio.create_task(world.ask()) for _ in range(50)]
    await world.proxy.arrived.wait()
    asking_all[0].cancel()
    world.proxy.hold.set()
    answers = await asyncio.gather(*asking_all[1:])
    assert {subject.user for subject in answers if subject} == {"alice"}
    assert len(world.proxy.asked) == 1


async def test_questions_under_way_are_bounded(tmp_path: Path) -> None:
    """A flood of invented cookies is refused with 503, and known sessions still pass."""
    async with opened(tmp_path, maxConcurrent=1) as world:
        known = await world.ask()
        world.proxy.arrived.clear()
        world.proxy.hold = asyncio.Event()
        waiting = asyncio.create_task(world.ask(f"{COOKIE}=two"))
        await world.proxy.arrived.wait()
        fault = await world.fault(f"{COOKIE}=three")
        assert isinstance(fault, Unavailable)
        assert (fault.reason, fault.message) == ("sessions_busy", "Too many sessions are being checked.")
        assert await world.ask() is known
        world.proxy.hold.set()
        with pytest.raises(CredentialError):
            await waiting


async def test_as_many_questions_are_under_way_as_the_settings_say(tmp_path: Path) -> None:
    """None of them waits for another one's connection."""
    async with opened(tmp_path, maxConcurrent=101, timeoutSeconds=30) as world:
        world.proxy.hold = asyncio.Event()
        waiting = [asyncio.create_task(world.fault(f"{COOKIE}={number}")) for number in range(101)]
        while len(world.proxy.asked) < 101:
            world.proxy.arrived.clear()
            await world.proxy.arrived.wait()
        world.proxy.hold.set()
        faults = await asyncio.gather(*waiting)
    assert {str(fault) for fault in faults} == {"session_invalid: The session has ended: log in again."}


async def test_stopping_tells_those_who_wait(world: World) -> None:
    """A drained pod refuses; it does not hang."""
    world.proxy.hold = asyncio.Event()
    waiting = asyncio.create_task(world.ask())
    await world.proxy.arrived.wait()
    await world.authenticators.stop()
    with pytest.raises(Unavailable):
        await waiting


@pytest.mark.parametrize("status", [204, 302, 400, 404, 500, 503])
async def test_an_unclear_answer_is_nobody(world: World, status: int) -> None:
    """503, never a user, and redirects are not followed."""
    world.proxy.status = status
    assert isinstance(await world.fault(), Unavailable)
    assert len(world.proxy.asked) == 1


async def test_a_user_whom_oauth2_proxy_does_not_admit_is_refused(world: World) -> None:
    """403, and no login that could not help."""
    world.proxy.status = 403
    fault = await world.fault()
    assert isinstance(fault, Refused)
    assert fault.status == 403


async def test_an_answer_without_a_token_is_unavailable(world: World) -> None:
    """set_authorization_header is off: a mistake of the installation."""
    world.proxy.header = "x-other"
    assert isinstance(await world.fault(), Unavailable)


async def test_without_oauth2_proxy_sessions_wait_and_tokens_pass(world: World) -> None:
    """Down is 503 for cookies; a bearer token needs nobody."""
    await world.proxy.__aexit__()
    fault = await world.fault()
    assert isinstance(fault, Unavailable)
    assert fault.reason == "session_unavailable"
    subject = await world.ask(None, **bearer(world.issuer.token()))
    assert subject is not None


async def test_before_the_start_no_session_is_known(tmp_path: Path) -> None:
    """Nothing can be asked yet."""
    async with OAuth2Proxy() as proxy:
        world = World(proxy, tmp_path)
        assert isinstance(await world.fault(), Unavailable)
        await world.authenticators.stop()


async def test_jwt_037_a_session_and_a_token_must_name_one_user(world: World) -> None:
    """Never the user of one and the groups of the other; the same user passes, at once when known."""
    token = bearer(world.issuer.token(jti="other"))
    for _ in range(2):
        subject = await world.ask(**token)
        assert subject is not None
        assert subject.authenticator == "session"
        fault = await world.fault(**bearer(world.issuer.token(sub="mallory")))
        assert isinstance(fault, CredentialError)
        assert fault.reason == "credential_ambiguous"
        assert isinstance(await world.fault(authorization="Basic YTpi"), CredentialError)


async def test_a_session_and_a_token_may_both_have_to_wait(world: World) -> None:
    """First oauth2-proxy is waited for, then the key of the token that came along."""
    await world.ask(None, **bearer(world.issuer.token()))
    other = Issuer(keys=[rsa_key("key-2")])
    world.jwks.write_bytes(Issuer(keys=[*world.issuer.keys, *other.keys]).jwks())
    world.clock.now += 10
    subject = await world.ask(**bearer(other.token()))
    assert subject is not None
    assert (subject.user, subject.authenticator) == ("alice", "session")


@pytest.mark.parametrize("cookie", [f"{COOKIE}=one; {COOKIE}=two", f"{COOKIE}=one,{COOKIE}=two"])
async def test_two_sessions_in_one_request_are_refused(world: World, cookie: str) -> None:
    """Which one a server takes is anybody's guess."""
    fault = await world.fault(cookie)
    assert isinstance(fault, CredentialError)
    assert world.proxy.asked == []


async def test_a_session_may_have_as_many_parts_as_it_may(world: World) -> None:
    """One more is too many."""
    world.proxy.sessions["x" * 16] = world.issuer.token()
    assert await world.ask("; ".join(f"{COOKIE}_{number}=x" for number in range(16)))


async def test_a_session_in_too_many_parts_is_refused(world: World) -> None:
    """Nobody can make us join cookies without end."""
    parts = "; ".join(f"{COOKIE}_{number}=x" for number in range(17))
    assert isinstance(await world.fault(parts), CredentialError)


async def test_a_session_without_memory_is_asked_for_each_time(tmp_path: Path) -> None:
    """The strictest setting: a logout counts at once."""
    async with opened(tmp_path, maxCached=0) as world:
        await world.ask()
        await world.ask()
        assert len(world.proxy.asked) == 2


@pytest.mark.parametrize(
    ("cookie", "reason", "message"),
    [
        (f"{COOKIE}=one; {COOKIE}=two", "credential_ambiguous", "two session cookies contradict each other"),
        (
            "; ".join(f"{COOKIE}_{number}=x" for number in range(17)),
            "credential_ambiguous",
            "the session has too many cookies",
        ),
        (f"{COOKIE}=unknown", "session_invalid", "The session has ended: log in again."),
        ("", "no_credential", "Log in: no credential was sent."),
    ],
)
async def test_the_browsers_user_is_told_what_is_wrong(world: World, cookie: str, reason: str, message: str) -> None:
    fault = await world.fault(cookie)
    assert isinstance(fault, CredentialError)
    assert (fault.reason, fault.message) == (reason, message)


async def test_who_is_signed_in_twice_is_told_so(world: World) -> None:
    fault = await world.fault(**bearer(world.issuer.token(sub="mallory")))
    assert isinstance(fault, CredentialError)
    assert fault.message == "the session and the token name different users"


async def test_who_is_not_admitted_is_told_by_whom(world: World) -> None:
    """Also where oauth2-proxy is not asked again."""
    world.proxy.status = 403
    for _ in range(2):
        fault = await world.fault()
        assert isinstance(fault, Refused)
        assert (fault.reason, fault.message) == ("session_refused", "oauth2-proxy does not admit this user.")


@pytest.mark.parametrize(
    ("header", "status", "why"),
    [
        ("authorization", 500, "it answered 500"),
        ("x-other", None, "its answer has no header authorization"),
    ],
)
async def test_an_outage_is_told_to_the_user_and_its_cause_to_the_log(
    world: World, caplog: pytest.LogCaptureFixture, header: str, status: int | None, why: str
) -> None:
    world.proxy.header, world.proxy.status = header, status
    fault = await world.fault()
    assert isinstance(fault, Unavailable)
    assert (fault.reason, fault.message) == ("session_unavailable", "The session cannot be checked now.")
    assert caplog.messages == [f"oauth2-proxy did not say whose a session is: {why}"]


async def test_the_log_tells_what_keeps_a_session_from_being_checked(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is connected before the start, and nobody listens after the end."""
    await world.proxy.__aexit__()
    await world.fault()
    async with OAuth2Proxy() as proxy:
        await World(proxy, world.jwks.parent).fault()
    assert caplog.messages == [
        f"oauth2-proxy did not say whose a session is: {why}" for why in ("it cannot be reached", "it is not connected")
    ]


async def test_a_session_is_bound_to_both_its_credentials(world: World) -> None:
    """A decision that rests on a session's token and on another one rests on more than either."""
    subject = await world.ask(**bearer(world.issuer.token(jti="other")))
    assert subject is not None
    assert subject.ground is None


@pytest.mark.parametrize("status", [200, 202])
async def test_both_good_answers_of_oauth2_proxy_are_good(world: World, status: int) -> None:
    """`/oauth2/auth` gives 202, and the path that serves a whole site gives 200."""
    world.proxy.good = status
    assert await world.ask()


async def test_a_cookie_is_sent_on_whole(world: World) -> None:
    """oauth2-proxy's own hold base64 with its padding."""
    world.proxy.sessions["one=|1|x=="] = world.issuer.token(sub="bob")
    subject = await world.ask(f"{COOKIE}=one=|1|x==")
    assert subject is not None
    assert subject.user == "bob"


async def test_nobody_sends_the_cookies_that_another_was_given(tmp_path: Path) -> None:
    """What an answer sets is for its own browser."""
    async with OAuth2Proxy() as proxy:
        world = World(proxy, tmp_path, url=proxy.url.replace("127.0.0.1", "localhost"))
        await world.authenticators.start()
        proxy.sessions["two"] = world.issuer.token(sub="bob")
        proxy.refreshed = [f"{COOKIE}=refreshed; Path=/", f"{COOKIE}_0=part; Path=/", "other=1; Path=/"]
        await world.ask()
        subject = await world.ask(f"{COOKIE}=two")
        await world.authenticators.stop()
    assert subject is not None
    assert subject.user == "bob"
    assert proxy.asked == [{COOKIE: "one"}, {COOKIE: "two"}]


async def test_a_slow_answer_is_given_up(tmp_path: Path) -> None:
    """After the setting's time it is 503."""
    async with opened(tmp_path, timeoutSeconds=0.05) as world:
        world.proxy.hold = asyncio.Event()
        assert isinstance(await world.fault(), Unavailable)


async def test_a_sessions_token_may_be_as_large_as_any(world: World) -> None:
    """A larger one is refused as any is, and an answer of any size is not read."""
    largest, larger = (world.issuer.token(filling="a" * count) for count in (11_865, 11_866))
    assert len(largest) == 16_384 < len(larger)
    world.proxy.sessions["one"], world.proxy.sessions["two"] = largest, larger
    world.proxy.sessions["three"] = world.issuer.token(filling="a" * 13_000)
    assert await world.ask()
    fault = await world.fault(f"{COOKIE}=two")
    assert isinstance(fault, CredentialError)
    assert fault.reason == "token_too_large"
    assert isinstance(await world.fault(f"{COOKIE}=three"), Unavailable)


async def test_the_environments_proxy_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cookies go to the configured address."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert await world.ask()
