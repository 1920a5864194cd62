"""Several ways to be known together: the order, and what happens while one of them must wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extauthz.errors import CredentialError
from extauthz.identity import Authenticators
from extauthz.settings.identity import Identity
from extauthz.subject import Subject
from tests.issuer import ABSENT, Clock, Issuer, asking, authenticated, bearer

EDITOR = "spiffe://cluster.local/ns/team-a/sa/default-editor"
PEER = "system:serviceaccount:team-a:default-editor"


def build(folder: Path, issuer: Issuer, **identity: Any) -> Authenticators:
    """Build authenticators that know tokens and a peer; the keys are still to be fetched."""
    (folder / "jwks.json").write_bytes(issuer.jwks())
    jwt = [{"issuer": issuer.name, "audiences": [issuer.audience], "keys": {"file": "jwks.json"}}]
    settings = Identity.model_validate({"jwt": jwt, "peer": {"principals": [EDITOR]}, **identity})
    return Authenticators(settings, resolve=folder.joinpath, clock=Clock())


async def ask(authenticators: Authenticators, headers: dict[str, str], peer: str = EDITOR) -> Subject | None:
    return await authenticated(authenticators, asking(headers, peer=peer))


async def test_a_token_comes_before_the_hop_that_brings_it(tmp_path: Path, issuer: Issuer) -> None:
    """Also while its keys have to be fetched first; without a token it is the hop."""
    authenticators = build(tmp_path, issuer)
    assert authenticators.problems()
    for _ in range(2):
        subject = await ask(authenticators, bearer(issuer.token()))
        assert subject is not None
        assert subject.user == "alice"
    assert not authenticators.problems()
    peer = await ask(authenticators, {})
    assert peer is not None
    assert peer.user == PEER
    assert await ask(authenticators, {}, peer="") is None


async def test_a_bad_token_is_not_mended_by_the_hop(tmp_path: Path, issuer: Issuer) -> None:
    """Recognised and bad is a refusal, not a fall-through."""
    authenticators = build(tmp_path, issuer)
    for token in (issuer.token(exp=0), issuer.token(iss="other"), issuer.token(sub=ABSENT), ""):
        with pytest.raises(CredentialError):
            await ask(authenticators, bearer(token))


async def test_a_token_must_agree_with_a_hop_that_comes_first(tmp_path: Path, issuer: Issuer) -> None:
    """A client's own token is never passed by unseen, since an upstream may read it."""
    authenticators = build(tmp_path, issuer, order=["peer", "token"])
    for _ in range(2):
        with pytest.raises(CredentialError) as refused:
            await ask(authenticators, bearer(issuer.token()))
        assert refused.value.reason == "credential_ambiguous"
    subject = await ask(authenticators, {})
    assert subject is not None
    assert subject.user == PEER


async def test_a_token_after_two_hops_is_not_passed_by(tmp_path: Path, issuer: Issuer) -> None:
    """A hop that is not asked, because another one was found, ends the search for no one."""
    header = {"principals": ["spiffe://cluster.local/ns/istio-system/sa/hop"]}
    authenticators = build(tmp_path, issuer, header=header, order=["peer", "header", "token"])
    for token in (issuer.token(), "junk"):
        with pytest.raises(CredentialError):
            await ask(authenticators, bearer(token))


async def test_who_is_known_by_a_hop_and_by_a_token_rests_on_both(tmp_path: Path, issuer: Issuer) -> None:
    """The token may end while the hop stays: such an answer is given once."""
    jwt = {"issuer": issuer.name, "audiences": [issuer.audience], "keys": {"file": "jwks.json"}}
    authenticators = build(tmp_path, issuer, jwt=[{**jwt, "serviceAccounts": True}], order=["peer", "token"])
    private = {"namespace": "team-a", "serviceaccount": {"name": "default-editor"}}
    claims: dict[str, Any] = {"sub": PEER, "kubernetes.io": private}
    token = issuer.token(**claims)
    for headers, rests_on_one in (({}, True), (bearer(token), False), (bearer(token), False)):
        subject = await ask(authenticators, headers)
        assert subject is not None
        assert subject.user == PEER
        assert (subject.ground is not None) is rests_on_one


async def test_a_token_review_without_a_reviewer_knows_nobody(tmp_path: Path, issuer: Issuer) -> None:
    """Whoever builds it without one gets refusals."""
    authenticators = build(tmp_path, issuer, tokenReview={"issuers": ["https://cluster.example"]})
    with pytest.raises(CredentialError) as refused:
        await ask(authenticators, bearer(issuer.token(iss="https://cluster.example", aud="pipelines.kubeflow.org")))
    assert refused.value.reason == "issuer_unknown"
