"""Kubernetes tokens by TokenReview: asked once, believed briefly, and never guessed."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from extauthz.access.kubernetes.tokenreview import PATH, TokenReviews
from extauthz.errors import CredentialError, ExtauthzError, Unavailable
from extauthz.identity import Authenticators
from extauthz.identity.refusals import MAX_REFUSALS, Refusals
from extauthz.loading import load_authenticator
from extauthz.settings import Settings
from extauthz.settings.identity import Identity, TokenReviewSettings
from extauthz.subject import Subject
from tests.apiserver.double import Double
from tests.apiserver.faults import hang
from tests.apiserver.fixtures import double as double
from tests.apiserver.manifests import delegate
from tests.apiserver.tokens import Account
from tests.issuer import ABSENT, NOW, Clock, Issuer, asking, authenticated, bearer
from tests.oauth2proxy import COOKIE, OAuth2Proxy

CLUSTER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = "pipelines.kubeflow.org"
USER = "system:serviceaccount:team-a:default-editor"
GROUPS = ("system:authenticated", "system:serviceaccounts", "system:serviceaccounts:team-a")


class World:
    """A cluster's issuer and API server, and the authenticators that ask it."""

    def __init__(self, cluster: Double, **review: Any) -> None:
        self.cluster = cluster
        self.issuer = Issuer(CLUSTER, AUDIENCE)
        self.clock = Clock()
        settings = {"issuers": [CLUSTER], "kubeconfig": str(cluster.kubeconfig()), **review}
        self.identity = Identity.model_validate({"tokenReview": settings})
        assert self.identity.token_review
        self.reviews = TokenReviews(self.identity.token_review, kubeconfig=cluster.kubeconfig())
        self.monotonic = Clock(0)
        self.authenticators = Authenticators(
            self.identity, resolve=Path, reviewer=self.reviews, clock=self.clock, monotonic=self.monotonic
        )

    def token(self, *, known: bool = True, audiences: tuple[str, ...] = (AUDIENCE,), **claims: Any) -> str:
        """Make a token that the API server knows, or one that it does not."""
        token = self.issuer.token(**claims)
        if known:
            self.cluster.accounts[token] = Account(USER, GROUPS, "s-1", audiences)
        return token

    @property
    def asked(self) -> int:
        """How many reviews the API server was asked for."""
        return self.cluster.calls["create tokenreviews"]

    async def ask(self, token: str) -> Subject | None:
        """Authenticate a request with a token."""
        return await authenticated(self.authenticators, asking(bearer(token)))

    async def fault(self, token: str) -> ExtauthzError:
        """Return the error of a token."""
        with pytest.raises((CredentialError, Unavailable)) as raised:
            await self.ask(token)
        return raised.value


@asynccontextmanager
async def opened(cluster: Double, **review: Any) -> AsyncIterator[World]:
    world = World(cluster, **review)
    await world.authenticators.start()
    try:
        yield world
    finally:
        await world.authenticators.stop()


@pytest.fixture
async def world(double: Double) -> AsyncIterator[World]:
    async with opened(double) as world:
        yield world


async def test_the_api_server_says_whose_a_token_is(world: World) -> None:
    """User, groups and uid are its own; the token's claims stay readable."""
    subject = await world.ask(world.token())
    assert subject is not None
    assert (subject.user, subject.groups, subject.uid) == (USER, GROUPS, "s-1")
    assert (subject.authenticator, subject.expires) == ("tokenReview", NOW + 3600)
    assert subject.claims["aud"] == AUDIENCE


async def test_an_answer_is_believed_for_its_time(world: World) -> None:
    """A deleted ServiceAccount's token is refused as soon as that is over."""
    token = world.token()
    subject = await world.ask(token)
    assert world.authenticators.authenticate(asking(bearer(token))) is subject
    assert world.asked == 1
    del world.cluster.accounts[token]
    world.clock.now += 11
    fault = await world.fault(token)
    assert isinstance(fault, CredentialError)
    assert fault.reason == "token_rejected"


@pytest.mark.parametrize("audiences", [[AUDIENCE], ["https://kubernetes.default.svc", AUDIENCE]])
async def test_one_of_several_audiences_is_enough(world: World, audiences: list[str]) -> None:
    """A cluster's tokens list them."""
    assert await world.ask(world.token(aud=audiences))


async def test_a_session_has_the_groups_of_the_last_review(double: Double, tmp_path: Path) -> None:
    """However long oauth2-proxy's answer is believed, its token is reviewed anew when its own time is over."""
    world = World(double)
    (tmp_path / "jwks.json").write_bytes(Issuer().jwks())
    async with OAuth2Proxy() as proxy:
        settings = {
            "jwt": [{"issuer": Issuer().name, "audiences": ["kubeflow"], "keys": {"file": "jwks.json"}}],
            "tokenReview": {"issuers": [CLUSTER], "kubeconfig": str(double.kubeconfig())},
            "session": {"url": proxy.url, "cookie": COOKIE},
        }
        world.authenticators = Authenticators(
            Identity.model_validate(settings),
            resolve=tmp_path.joinpath,
            reviewer=world.reviews,
            clock=world.clock,
            monotonic=world.monotonic,
        )
        await world.authenticators.start()
        token = proxy.sessions["one"] = world.token()
        groups = []
        for group in ("devs", "ops"):
            world.cluster.accounts[token] = Account(USER, (group,), "s-1", (AUDIENCE,))
            subject = await authenticated(world.authenticators, asking({"cookie": f"{COOKIE}=one"}))
            assert subject is not None
            groups.append(subject.groups)
            world.clock.now += 11
            world.monotonic.now += 11
        await world.authenticators.stop()
    assert [("devs" in given, "ops" in given) for given in groups] == [(True, False), (False, True)]
    assert len(proxy.asked) == 1


async def test_an_answer_ends_with_its_token(double: Double) -> None:
    """Whatever the setting says."""
    async with opened(double, maxCacheSeconds=3600) as world:
        token = world.token(exp=NOW + 5)
        await world.ask(token)
        world.clock.now += 6
        await world.ask(token)
        assert world.asked == 2
        world.clock.now += 30
        assert isinstance(await world.fault(token), CredentialError)
        assert world.asked == 2


async def test_a_reviewer_that_no_setting_names_is_not_asked(world: World, tmp_path: Path) -> None:
    """It does not make a token good whose issuer the settings do not name."""
    other = Issuer()
    (tmp_path / "jwks.json").write_bytes(other.jwks())
    jwt = {"issuer": other.name, "audiences": [other.audience], "keys": {"file": "jwks.json"}}
    identity = Identity.model_validate({"jwt": [jwt]})
    others = Authenticators(identity, resolve=tmp_path.joinpath, reviewer=world.reviews, clock=world.clock)
    with pytest.raises(CredentialError) as refused:
        await authenticated(others, asking(bearer(world.token())))
    assert refused.value.reason == "issuer_unknown"
    assert world.asked == 0


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW - 31}, "token_expired"),
        ({"exp": ABSENT}, "claim_invalid"),
        ({"nbf": NOW + 31}, "token_not_yet_valid"),
        ({"aud": "https://kubernetes.default.svc"}, "audience_mismatch"),
        ({"aud": []}, "audience_mismatch"),
        ({"aud": {AUDIENCE: 1}}, "audience_mismatch"),
        ({"aud": ABSENT}, "audience_mismatch"),
        ({"iss": "https://other.example"}, "issuer_unknown"),
        ({"iss": [CLUSTER]}, "issuer_unknown"),
    ],
)
async def test_what_cannot_be_valid_is_not_asked_about(world: World, claims: dict[str, Any], reason: str) -> None:
    """The API server is spared, and other issuers' tokens are not shown to it."""
    fault = await world.fault(world.token(**claims))
    assert isinstance(fault, CredentialError)
    assert fault.reason == reason
    assert world.asked == 0


async def test_a_padded_token_is_refused(world: World) -> None:
    """Only a load balancer pads."""
    header, payload, signature = world.token().split(".")
    assert isinstance(await world.fault(f"{header}.{payload}==.{signature}"), CredentialError)
    assert world.asked == 0


async def test_a_forged_token_is_refused_by_the_api_server(world: World) -> None:
    """401, asked about once in a moment whatever the wall clock does, and each token for itself."""
    token = world.token(known=False)
    for _ in range(3):
        fault = await world.fault(token)
        assert isinstance(fault, CredentialError)
        assert fault.reason == "token_rejected"
    assert world.asked == 1
    assert await world.ask(world.token(jti="good"))
    world.clock.now -= 30
    world.monotonic.now += 5
    await world.fault(token)
    assert world.asked == 3


async def test_a_refused_token_passes_soon_after_it_became_good(world: World) -> None:
    """The cluster may have learnt of it a moment late."""
    token = world.token(known=False)
    await world.fault(token)
    world.cluster.accounts[token] = Account(USER, GROUPS, "s-1", (AUDIENCE,))
    world.monotonic.now += 5
    assert await world.ask(token)


async def test_what_is_wrong_with_a_token_is_told(world: World) -> None:
    """Each time alike, whether the API server was asked again or not."""
    refused = world.token(known=False, jti="refused")
    padded = ".".join(f"{part}{'=' * (-len(part) % 4)}" for part in world.token(jti="padded").split("."))
    for token, reason, message in (
        (refused, "token_rejected", "the cluster does not know the token"),
        (refused, "token_rejected", "the cluster does not know the token"),
        (world.token(aud="other"), "audience_mismatch", "the token is meant for others"),
        (padded, "token_malformed", "the token's segments are padded"),
    ):
        fault = await world.fault(token)
        assert isinstance(fault, CredentialError)
        assert (fault.reason, fault.message) == (reason, message)


async def test_an_outage_is_not_remembered(world: World) -> None:
    """The next request asks again."""

    async def broken(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    token = world.token()
    with world.cluster.fault(PATH, broken):
        assert isinstance(await world.fault(token), Unavailable)
    assert await world.ask(token)


async def test_refused_tokens_are_forgotten_beyond_their_bound() -> None:
    """A stranger who invents tokens cannot fill the memory."""
    refusals = Refusals(5, Clock(0))
    for number in range(MAX_REFUSALS + 1):
        refusals.add(str(number), 401)
    assert refusals.status_of("0") is None
    assert refusals.status_of(str(MAX_REFUSALS)) == 401


async def test_a_token_for_another_audience_is_refused_whatever_it_claims(world: World) -> None:
    """The API server has the last word on the audience."""
    fault = await world.fault(world.token(audiences=("https://kubernetes.default.svc",)))
    assert isinstance(fault, CredentialError)
    assert fault.reason == "token_rejected"


async def test_concurrent_requests_with_a_token_are_one_review(world: World) -> None:
    """However many there are."""
    token = world.token()
    subjects = await asyncio.gather(*(world.ask(token) for _ in range(50)))
    assert {subject.user for subject in subjects if subject} == {USER}
    assert world.asked == 1


async def test_reviews_under_way_are_bounded(double: Double) -> None:
    """Beyond the bound it is 503 at once."""
    async with opened(double, maxConcurrent=1) as world:
        answers = await asyncio.gather(
            *(world.ask(world.token(jti=str(number))) for number in range(5)), return_exceptions=True
        )
        assert sum(isinstance(answer, Subject) for answer in answers) == 1
        busy = [answer for answer in answers if isinstance(answer, Unavailable)]
        assert len(busy) == 4
        assert {(answer.reason, answer.message) for answer in busy} == {
            ("token_reviews_busy", "Too many tokens are being checked.")
        }


async def test_without_the_right_to_ask_nobody_passes(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """503, and the log says once which binding is missing."""
    for manifest in delegate():
        if manifest["kind"] == "ClusterRoleBinding":
            world.cluster.erase(manifest)
    world.cluster.settle()
    for _ in range(2):
        assert isinstance(await world.fault(world.token()), Unavailable)
    assert caplog.text.count("system:auth-delegator") == 1


async def test_what_is_asked_is_a_token_review(world: World) -> None:
    """The API server takes no other; one that refuses the question lets nobody pass."""
    asked: list[tuple[str, Any]] = []

    async def refusing(request: web.Request) -> web.StreamResponse:
        asked.append((request.method, await request.json()))
        return web.Response(status=422)

    token = world.token()
    with world.cluster.fault(PATH, refusing):
        fault = await world.fault(token)
    assert (fault.args, isinstance(fault, Unavailable)) == (
        ("token_review_unavailable: The token cannot be checked: the API server refuses the question.",),
        True,
    )
    spec = {"token": token, "audiences": [AUDIENCE]}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    assert asked == [("POST", review)]


async def test_an_api_server_that_hangs_lets_nobody_pass(double: Double) -> None:
    """Its time is bounded."""
    async with opened(double, timeoutSeconds=0.1) as world:
        token = world.token()
        with double.fault(PATH, hang()):
            assert isinstance(await world.fault(token), Unavailable)


async def test_without_an_api_server_nobody_passes(world: World) -> None:
    """503; a known token serves until its time is over."""
    known = world.token()
    subject = await world.ask(known)
    await world.cluster.stop()
    assert isinstance(await world.fault(world.token(jti="new")), Unavailable)
    assert await world.ask(known) is subject


async def test_before_the_start_nobody_is_known(double: Double) -> None:
    """There is no connection yet."""
    world = World(double)
    assert isinstance(await world.fault(world.token()), Unavailable)
    await world.authenticators.stop()


async def test_settings_build_it(double: Double, tmp_path: Path) -> None:
    """The service joins both ends."""
    identity = {"tokenReview": {"issuers": [CLUSTER], "kubeconfig": str(double.kubeconfig())}}
    settings = Settings.model_validate(
        {
            "apiVersion": "extauthz.dev/v1",
            "kind": "Settings",
            "identity": identity,
            "access": {"kubernetes": {}},
            "policy": {"paths": [str(tmp_path)]},
        }
    )
    authenticator = load_authenticator(settings)
    await authenticator.start()
    issuer = Issuer(CLUSTER, AUDIENCE)
    token = issuer.token(exp=4_000_000_000, iat=0)
    double.accounts[token] = Account(USER, GROUPS, "s-1", (AUDIENCE,))
    answer = authenticator.authenticate(asking(bearer(token)))
    assert inspect.isawaitable(answer)
    subject = await answer
    assert isinstance(subject, Subject)
    assert subject.user == USER
    await authenticator.stop()


GOOD: dict[str, Any] = {"authenticated": True, "user": {"username": USER}, "audiences": [AUDIENCE]}


def answer(**status: Any) -> dict[str, Any]:
    """Return a review whose status differs from a good one; ABSENT takes a member away."""
    changed = {name: value for name, value in {**GOOD, **status}.items() if value is not ABSENT}
    return {"kind": "TokenReview", "status": changed}


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (answer(), Subject.authenticated(USER)),
        (
            answer(user={"username": USER, "uid": "7", "extra": {"b": ["2"], "a": ["1", "0"]}}),
            Subject.authenticated(USER, uid="7", extra=(("a", ("1", "0")), ("b", ("2",)))),
        ),
        (answer(authenticated=False), None),
        (answer(authenticated=ABSENT), None),
        (answer(authenticated="true"), None),
        (answer(authenticated=1), None),
        (answer(audiences=[]), None),
        (answer(audiences=["other"]), None),
        (answer(audiences=ABSENT), Unavailable),
        (answer(audiences=AUDIENCE), Unavailable),
        (answer(user=ABSENT), Unavailable),
        (answer(user={}), Unavailable),
        (answer(user={"username": ""}), Unavailable),
        (answer(user={"username": ["a"]}), Unavailable),
        (answer(user={"username": USER, "uid": 1}), Unavailable),
        (answer(user={"username": USER, "groups": "system:masters"}), Unavailable),
        (answer(user={"username": USER, "groups": [1]}), Unavailable),
        (answer(user={"username": USER, "extra": []}), Unavailable),
        (answer(user={"username": USER, "extra": {"a": "b"}}), Unavailable),
        ({"kind": "Status", "status": "Failure"}, Unavailable),
        ({"kind": "SubjectAccessReview", "status": GOOD}, Unavailable),
        ({"kind": "TokenReview", "status": None}, Unavailable),
        ({"kind": "TokenReview"}, Unavailable),
        ([], Unavailable),
        (None, Unavailable),
    ],
)
async def test_only_a_clear_answer_names_a_user(double: Double, body: Any, outcome: Any) -> None:
    """An API server without audiences, or a body that is anything else, names nobody."""

    async def fault(_: web.Request) -> web.StreamResponse:
        return web.Response(body=json.dumps(body).encode() if body is not None else b"<html>", status=201)

    reviews = TokenReviews(TokenReviewSettings.model_validate({"issuers": [CLUSTER]}), kubeconfig=double.kubeconfig())
    await reviews.start()
    try:
        with double.fault(PATH, fault):
            if outcome is Unavailable:
                with pytest.raises(Unavailable) as raised:
                    await reviews.review("token", [AUDIENCE])
                assert raised.value.message == "The token cannot be checked: the API server's answer is unreadable."
            else:
                assert await reviews.review("token", [AUDIENCE]) == outcome
    finally:
        await reviews.stop()
