"""Keys from a real server: fetched in the background, shared, kept through faults, never guessed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from extauthz.errors import CredentialError, Unavailable
from extauthz.identity import TokenAuthenticator
from extauthz.settings.identity import Identity
from extauthz.subject import Subject
from tests.apiserver import pki
from tests.issuer import ABSENT, Clock, Fault, Issuer, KeyServer, Pauses, asking, bearer, ec_key, rsa_key, segment


class World:
    """A key server, and an authenticator that fetches from it under the test's clocks."""

    def __init__(self, server: KeyServer, **keys: Any) -> None:
        self.server = server
        self.issuer = server.issuer
        self.clock = Clock()
        self.monotonic = Clock(0)
        self.pauses = Pauses()
        source = {} if {"file", "discovery"} & keys.keys() else {"url": f"{server.url}/jwks"}
        configured = {"issuer": self.issuer.name, "audiences": [self.issuer.audience], "keys": {**source, **keys}}
        self.authenticator = TokenAuthenticator(
            Identity.model_validate({"jwt": [configured]}),
            resolve=Path("/").joinpath,
            clock=self.clock,
            monotonic=self.monotonic,
            sleep=self.pauses,
        )

    async def begin(self) -> float:
        """Start, and return the pause that follows the first fetch."""
        await self.authenticator.start()
        return await self.pauses.begun.get()

    async def next_fetch(self) -> float:
        """End the present pause, and return the one that follows the next fetch."""
        self.pauses.end()
        return await self.pauses.begun.get()

    async def outcome(self, **header: Any) -> str:
        """Return the user whom a good token with a changed header names, or the reason of the refusal."""
        return await self.outcome_of(self.issuer.token(header))

    async def outcome_of(self, token: str) -> str:
        """Return the user whom a token names, or the reason of the refusal."""
        try:
            subject = await resolved(self.authenticator.authenticate(asking(bearer(token))))
        except (CredentialError, Unavailable) as refused:
            return refused.reason
        return subject.user if subject else "nobody"


async def resolved(answer: Any) -> Any:
    """Wait for an answer where there is something to wait for."""
    return await answer if isinstance(answer, Awaitable) else answer


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with KeyServer(Issuer()) as server:
        yield server


@pytest.fixture
async def world(server: KeyServer) -> AsyncIterator[World]:
    async with opened(server) as world:
        yield world


@asynccontextmanager
async def opened(server: KeyServer, **keys: Any) -> AsyncIterator[World]:
    world = World(server, **keys)
    try:
        yield world
    finally:
        await world.authenticator.stop()


async def test_keys_are_fetched_before_any_token_comes(world: World) -> None:
    """After the first fetch a token is verified with nothing to wait for."""
    await world.begin()
    assert world.authenticator.problems() == []
    assert isinstance(world.authenticator.authenticate(asking(bearer(world.issuer.token()))), Subject)
    assert world.server.fetches == 1


async def test_the_first_token_waits_for_the_first_fetch(world: World) -> None:
    """A token that comes while the first fetch runs waits for it and is verified."""
    world.server.fault = "slow"
    await world.authenticator.start()
    await world.server.arrived.wait()
    waiting = asyncio.ensure_future(world.outcome())
    world.server.fault = None
    world.server.release.set()
    assert await waiting == "alice"
    assert world.server.fetches == 1


async def test_jwks_001_a_burst_of_unknown_key_ids(world: World) -> None:
    """Ten thousand random key ids cause one fetch, are all refused, and hold up no known key."""
    await world.begin()
    _, claims, signature = world.issuer.token().split(".")
    tokens = [
        f"{segment(world.issuer.header(kid=f'random-{number}'))}.{claims}.{signature}" for number in range(10_000)
    ]
    outcomes = await asyncio.gather(*(world.outcome_of(token) for token in tokens))
    assert set(outcomes) == {"key_unknown"}
    assert world.server.fetches == 2
    assert await world.outcome(kid="random-again") == "key_unknown"
    assert await world.outcome() == "alice"
    assert world.server.fetches == 2


async def test_jwks_001_a_late_wait_ends_at_once(world: World) -> None:
    """A caller that begins to wait only when the cool-down has begun is refused without a fetch."""
    await world.begin()
    first, second = (world.authenticator.authenticate(asking(bearer(world.issuer.token({"kid": kid})))) for kid in "ab")
    for waiting in (first, second):
        with pytest.raises(CredentialError):
            await resolved(waiting)
    assert world.server.fetches == 2


async def test_jwks_001_after_the_cooldown_one_more(world: World) -> None:
    """Each cool-down allows one more fetch."""
    await world.begin()
    for fetches in (2, 3):
        assert await world.outcome(kid="random") == "key_unknown"
        assert await world.outcome(kid="random") == "key_unknown"
        assert world.server.fetches == fetches
        world.monotonic.now += 10


@pytest.mark.parametrize("fault", ["error", "garbage", "huge", "redirect", "empty", "compressed"])
async def test_jwks_002_good_keys_survive_a_bad_fetch(world: World, fault: Fault) -> None:
    """A fetch that fails in any way leaves the last good keys in place."""
    await world.begin()
    world.server.fault = fault
    assert await world.outcome(kid="unknown") == "key_unknown"
    assert world.server.fetches == 2
    assert await world.outcome() == "alice"
    assert world.authenticator.problems() == []


async def test_jwks_002_good_keys_survive_an_outage(world: World) -> None:
    """With the issuer down, known keys verify and unknown ones do not."""
    await world.begin()
    await world.server.down()
    assert await world.outcome(kid="unknown") == "key_unknown"
    assert await world.outcome() == "alice"


async def test_jwks_002_an_outage_is_survived_for_a_bounded_time(server: KeyServer) -> None:
    """After the allowed time without a good fetch, the old keys verify nothing."""
    async with opened(server, max_stale_seconds=600, refresh_seconds=300, timeout_seconds=5) as world:
        await world.begin()
        await server.down()
        world.monotonic.now = 904
        assert await world.outcome() == "alice"
        world.monotonic.now += 1
        world.clock.now += 1
        assert await world.outcome() == "keys_unavailable"
        assert "Connect" in world.authenticator.problems()[0]


async def test_jwks_003_rotation(world: World) -> None:
    """The first token with a new key id causes one fetch, for which all others wait."""
    await world.begin()
    world.issuer.keys = [rsa_key("key-2")]
    outcomes = await asyncio.gather(*(world.outcome() for _ in range(50)))
    assert set(outcomes) == {"alice"}
    assert world.server.fetches == 2


async def test_jwks_003_rotation_during_a_refresh(world: World) -> None:
    """A token whose key was published after the running fetch began gets another fetch."""
    await world.begin()
    world.server.fault = "slow"
    world.pauses.end()
    await world.server.arrived.wait()
    world.issuer.keys = [rsa_key("key-2")]
    waiting = asyncio.ensure_future(world.outcome())
    world.server.fault = None
    world.server.release.set()
    assert await waiting == "alice"
    assert world.server.fetches == 3


async def test_jwks_003_a_fetch_that_lands_before_the_wait_begins(world: World) -> None:
    """A token that was to wait for a running fetch is verified with its keys, however late the wait begins."""
    await world.begin()
    world.issuer.keys = [rsa_key("key-2")]
    world.server.fault = "slow"
    first = asyncio.ensure_future(world.outcome())
    await world.server.arrived.wait()
    late = world.authenticator.authenticate(asking(bearer(world.issuer.token(jti="late"))))
    world.server.fault = None
    world.server.release.set()
    assert await first == "alice"
    assert (await resolved(late)).user == "alice"
    assert world.server.fetches == 2


async def test_a_cancelled_wait_harms_nobody(world: World) -> None:
    """A caller that gives up neither ends the fetch nor fails the others."""
    world.server.fault = "slow"
    first, second = (asyncio.ensure_future(world.outcome()) for _ in range(2))
    await world.server.arrived.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    world.server.fault = None
    world.server.release.set()
    assert await second == "alice"
    assert world.server.fetches == 1


async def test_jwks_010_no_key_id(world: World) -> None:
    """Without `kid`, one fitting key is used; among two none is, and nothing is fetched for it."""
    await world.begin()
    assert await world.outcome(kid=ABSENT) == "alice"
    world.issuer.keys = [rsa_key("key-1"), rsa_key("key-2")]
    await world.next_fetch()
    assert await world.outcome(kid=ABSENT) == "key_unknown"
    assert world.server.fetches == 2


async def test_jwks_012_start_while_the_issuer_is_down(world: World) -> None:
    """Without keys every token is answered 503 and the reason is known; it mends itself."""
    await world.server.down()
    pause = await world.begin()
    assert 8 <= pause <= 10
    assert "issuer https://idp.example has no keys: " in world.authenticator.problems()[0]
    assert "Connect" in world.authenticator.problems()[0]
    assert await world.outcome() == "keys_unavailable"
    with pytest.raises(Unavailable) as refused:
        await resolved(world.authenticator.authenticate(asking(bearer(world.issuer.token()))))
    assert refused.value.retry_after == 10
    await world.server.up()
    await world.next_fetch()
    assert await world.outcome() == "alice"
    assert world.authenticator.problems() == []


async def test_without_keys_junk_is_still_refused(world: World) -> None:
    """A token that no key could save is refused as such, not answered with 503."""
    assert await world.outcome(alg="none") == "algorithm_not_allowed"
    assert world.authenticator.problems() == ["issuer https://idp.example has no keys: not fetched yet"]


async def test_keys_are_refreshed_at_intervals(world: World) -> None:
    """The pause between fetches lies just below the setting, and a refresh takes back removed keys."""
    assert 240 <= await world.begin() <= 300
    old = bearer(world.issuer.token())
    assert world.authenticator.authenticate(asking(old))
    world.issuer.keys = [rsa_key("key-2")]
    assert 240 <= await world.next_fetch() <= 300
    assert await world.outcome() == "alice"
    with pytest.raises(CredentialError):
        await resolved(world.authenticator.authenticate(asking(old)))


async def test_a_slow_issuer_is_given_up(server: KeyServer) -> None:
    """A fetch ends after the timeout, whatever the issuer does."""
    async with opened(server, timeout_seconds=0.05) as world:
        server.fault = "slow"
        assert await world.outcome() == "keys_unavailable"
        assert world.authenticator.problems() == ["issuer https://idp.example has no keys: no answer within 0.05 s"]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("error", "/jwks answered 500"),
        ("redirect", "/jwks answered 302"),
        ("garbage", "not a JSON Web Key Set"),
        ("compressed", "not a JSON Web Key Set"),
        ("huge", "larger than 1048576 bytes"),
        ("empty", "none of 0 keys can be used"),
    ],
)
async def test_answers_that_are_no_keys(world: World, fault: Fault, problem: str) -> None:
    """Each faulty answer is told apart for the operator, and redirects are not followed."""
    world.server.fault = fault
    assert await world.outcome() == "keys_unavailable"
    assert problem in world.authenticator.problems()[0]


async def test_discovery(server: KeyServer) -> None:
    """The address of the keys is read from the issuer's own document."""
    server.issuer.name = server.url
    async with opened(server, discovery=True) as world:
        assert await world.outcome() == "alice"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"issuer": "https://evil.example"}, "another issuer's"),
        ({"issuer": ABSENT}, "another issuer's"),
        ({"jwks_uri": ABSENT}, "jwks_uri must start with"),
        ({"jwks_uri": 7}, "jwks_uri must start with"),
        ({"jwks_uri": "file:///etc/passwd"}, "jwks_uri must start with"),
        ({"jwks_uri": "http://"}, "has no keys: "),
        ({"jwks_uri": "http://127.0.0.1:99999/"}, "has no keys: "),
    ],
)
async def test_discovery_documents_that_mislead(server: KeyServer, document: dict[str, Any], problem: str) -> None:
    """A document that is not exactly the issuer's, or leads nowhere good, brings no keys."""
    server.issuer.name = server.url
    server.discovery = document
    async with opened(server, discovery=True) as world:
        assert await world.outcome() == "keys_unavailable"
        assert problem in world.authenticator.problems()[0]
        assert server.fetches == 0


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"issuer": "https://evil.example"}, "the discovery document is another issuer's"),
        ({"jwks_uri": 7}, "the discovery document's jwks_uri must start with https:// or http://"),
    ],
)
async def test_the_operator_is_told_what_is_wrong_with_a_discovery_document(
    server: KeyServer, document: dict[str, Any], problem: str
) -> None:
    server.issuer.name = server.url
    server.discovery = document
    async with opened(server, discovery=True) as world:
        await world.outcome()
        assert world.authenticator.problems() == [f"issuer {server.url} has no keys: {problem}"]


async def test_discovery_may_lead_into_tls(tls_server: KeyServer, server: KeyServer, tmp_path: Path) -> None:
    """An issuer with an http name may publish its keys under https."""
    server.issuer.name = server.url
    server.discovery = {"jwks_uri": f"{tls_server.url}/jwks"}
    async with opened(server, discovery=True, ca_file=str(tmp_path / "pki" / "ca.crt")) as world:
        assert await world.outcome() == "alice"
        assert (server.fetches, tls_server.fetches) == (0, 1)


async def test_a_trailing_slash_belongs_to_the_issuer(server: KeyServer) -> None:
    """The well-known address has one slash, while the issuer is still compared exactly."""
    server.issuer.name = f"{server.url}/"
    async with opened(server, discovery=True) as world:
        assert await world.outcome() == "keys_unavailable"
        server.discovery = {"issuer": server.issuer.name}
        world.monotonic.now += 10
        assert await world.outcome() == "alice"


async def test_keys_from_a_file(server: KeyServer, tmp_path: Path) -> None:
    """A key file is read again for an unknown key id, so a rotated file needs no restart."""
    file = tmp_path / "jwks.json"
    file.write_bytes(server.issuer.jwks())
    async with opened(server, file=str(file)) as world:
        await world.begin()
        server.issuer.keys = [rsa_key("key-2")]
        file.write_bytes(server.issuer.jwks())
        assert await world.outcome() == "alice"
        assert server.fetches == 0


async def test_a_key_file_may_be_as_large_as_it_may(server: KeyServer, tmp_path: Path) -> None:
    """One byte more is too much."""
    file = tmp_path / "jwks.json"
    for size, outcome in ((1024 * 1024, "alice"), (1024 * 1024 + 1, "keys_unavailable")):
        file.write_bytes(server.issuer.jwks().ljust(size))
        async with opened(server, file=str(file)) as world:
            assert await world.outcome() == outcome


async def test_key_files_that_cannot_be_used(server: KeyServer, tmp_path: Path) -> None:
    """A missing or overlarge file brings no keys, and the problem names it."""
    file = tmp_path / "jwks.json"
    async with opened(server, file=str(file)) as world:
        assert await world.outcome() == "keys_unavailable"
        assert "No such file" in world.authenticator.problems()[0]
        file.write_bytes(b" " * (1024 * 1024 + 1))
        world.monotonic.now += 10
        assert await world.outcome() == "keys_unavailable"
        assert "larger than" in world.authenticator.problems()[0]


@pytest.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[KeyServer]:
    """A server whose certificate only `pki/ca.crt` vouches for, and whose issuer has its https name."""
    async with KeyServer(Issuer(), pki.create(tmp_path / "pki").server_context()) as server:
        server.issuer.name = server.url
        yield server


async def test_a_private_authority(tls_server: KeyServer, tmp_path: Path) -> None:
    """Over TLS, the CA file decides whose server is believed."""
    async with opened(tls_server, discovery=True, ca_file=str(tmp_path / "pki" / "ca.crt")) as world:
        assert await world.outcome() == "alice"
    async with opened(tls_server, discovery=True) as world:
        assert await world.outcome() == "keys_unavailable"
        assert "CERTIFICATE_VERIFY_FAILED" in world.authenticator.problems()[0]
    other = pki.create(tmp_path / "other")
    async with opened(tls_server, discovery=True, ca_file=str(other.ca)) as world:
        assert await world.outcome() == "keys_unavailable"


async def test_discovery_does_not_leave_tls(tls_server: KeyServer, server: KeyServer, tmp_path: Path) -> None:
    """An issuer with an https name cannot have its keys fetched in the clear."""
    tls_server.discovery = {"jwks_uri": f"{server.url}/jwks"}
    async with opened(tls_server, discovery=True, ca_file=str(tmp_path / "pki" / "ca.crt")) as world:
        assert await world.outcome() == "keys_unavailable"
        assert "jwks_uri must start with https://" in world.authenticator.problems()[0]
        assert server.fetches == 0


async def test_the_environments_proxy_is_not_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables do not decide where keys come from."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert await world.outcome() == "alice"


async def test_an_unusable_ca_file(server: KeyServer, tmp_path: Path) -> None:
    """A CA file that cannot be read fails the fetch and nothing else."""
    async with opened(server, ca_file=str(tmp_path / "ca.pem")) as world:
        assert await world.outcome() == "keys_unavailable"
        (tmp_path / "ca.pem").write_text("no certificate")
        world.monotonic.now += 10
        assert await world.outcome() == "keys_unavailable"


async def test_failclosed_003_a_dead_refresh_is_revived(server: KeyServer, caplog: pytest.LogCaptureFixture) -> None:
    """When the background refresh dies it is logged, and begins anew after a pause."""
    async with opened(server) as world:
        await world.begin()
        world.pauses.fail(RuntimeError("broken"))
        assert await world.pauses.begun.get() == 10
        assert "refresh of keys ended" in caplog.text
        assert 240 <= await world.next_fetch() <= 300
        assert server.fetches == 2


async def test_an_unforeseen_error_is_only_a_failed_fetch(caplog: pytest.LogCaptureFixture) -> None:
    """An error nobody foresaw is logged with its trace and treated like any failed fetch."""

    def broken(path: Path) -> Path:
        raise RuntimeError("unforeseen")

    configured = {"issuer": "https://idp.example", "audiences": ["kubeflow"], "keys": {"file": "jwks.json"}}
    authenticator = TokenAuthenticator(Identity.model_validate({"jwt": [configured]}), resolve=broken)
    with caplog.at_level(logging.ERROR), pytest.raises(Unavailable):
        await resolved(authenticator.authenticate(asking(bearer(Issuer().token(exp=4_000_000_000, iat=0)))))
    assert "unforeseen" in caplog.text
    assert authenticator.problems() == ["issuer https://idp.example has no keys: internal error"]


async def test_stopping_ends_the_wait(world: World) -> None:
    """Stopping while a token waits for keys refuses it and starts no other fetch."""
    world.server.fault = "slow"
    await world.authenticator.start()
    await world.server.arrived.wait()
    waiting = asyncio.ensure_future(world.outcome())
    await asyncio.sleep(0)  # the wait has begun
    await world.authenticator.stop()
    assert await waiting == "keys_unavailable"
    assert world.server.fetches == 1


async def test_keys_of_another_kind_do_not_count(world: World) -> None:
    """A set with only keys for algorithms that are not allowed is a failed fetch."""
    world.issuer.keys = [ec_key("key-1")]
    assert await world.outcome(alg="RS256") == "keys_unavailable"
