"""The verifier by itself: what it holds to, whoever hands it a token."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from extauthz.errors import CredentialError
from extauthz.identity.keys import Key, KeySet
from extauthz.identity.store import KeyStore
from extauthz.identity.token import read_token
from extauthz.identity.verified import Verified
from extauthz.identity.verifier import Verifier
from extauthz.identity.web import Page
from extauthz.settings.identity import JwtIssuer
from tests.issuer import Clock, Issuer, SigningKey, rsa_key
from tests.unit.identity.conftest import Desk

Build = Callable[..., JwtIssuer]
HEADER = "x-token"


async def holding(settings: JwtIssuer, *keys: SigningKey) -> Verifier:
    """Return a verifier whose keys are fetched."""

    async def fetch(_: Collection[str]) -> Page:
        return Page(Issuer(keys=list(keys)).jwks())

    store = KeyStore(settings, fetch, clock=Clock(0))
    await store.renew()
    return Verifier(settings, store, Clock())


def outcome(verifier: Verifier, token: str) -> str:
    """Return the user whom a token names, or the reason of the refusal."""
    try:
        verified = verifier.verify(read_token(HEADER, token, max_bytes=len(token)))
    except CredentialError as refused:
        return refused.reason
    assert isinstance(verified, Verified)
    return verified.subject.user


async def test_a_good_signature_does_not_make_up_for_another_issuers_name(jwt_issuer: Build, issuer: Issuer) -> None:
    """Whoever picks the verifier may err: it looks at `iss` itself."""
    verifier = await holding(jwt_issuer(), *issuer.keys)
    assert outcome(verifier, issuer.token()) == "alice"
    assert outcome(verifier, issuer.token(iss="https://other.example")) == "token_malformed"


async def test_a_weak_key_verifies_nothing_however_it_came_into_the_set(jwt_issuer: Build) -> None:
    """Its size is looked at when the set is read, and again when a signature is."""
    weak = rsa_key("weak", bits=1024)
    verifier = await holding(jwt_issuer(), rsa_key("key-1"))
    public = weak.private.public_key()
    verifier.store.latest = KeySet((Key(weak.id, frozenset({"RS256"}), public),))
    assert outcome(verifier, Issuer(keys=[weak]).token()) == "token_malformed"


@pytest.mark.parametrize("now", [1_000_000_000, 4_000_000_000])
async def test_times_are_those_of_the_callers_clock(desk: Desk, issuer: Issuer, now: int) -> None:
    """What the machine's own says does not count."""
    desk.clock.now = now
    assert await desk.ask({"authorization": f"Bearer {issuer.token(iat=now, nbf=now, exp=now + 60)}"})
