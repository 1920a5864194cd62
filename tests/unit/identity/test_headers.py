"""Several issuers, and several headers that may carry a token."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.issuer import Issuer, bearer, ec_key, rsa_key
from tests.unit.identity.conftest import Desk

IAP = "x-goog-iap-jwt-assertion"


@pytest.fixture
def dex() -> Issuer:
    return Issuer(name="https://dex.example", audience="kubeflow")


@pytest.fixture
def iap() -> Issuer:
    return Issuer(name="https://iap.example", audience="/projects/1", keys=[ec_key("iap-1")])


@pytest.fixture
def both(tmp_path: Path, dex: Issuer, iap: Issuer) -> Desk:
    desk = Desk(tmp_path, dex, iap)
    desk.configured["jwt"][1].update(header=IAP, algorithms=["ES256"], claims={"user_prefix": "iap:"})
    desk.open()
    return desk


async def test_each_header_has_its_issuers(both: Desk, dex: Issuer, iap: Issuer) -> None:
    """A token counts in the header that is configured for its issuer, with that issuer's prefix."""
    first, second = await both.ask(bearer(dex.token())), await both.ask({IAP: iap.token()})
    assert first is not None
    assert second is not None
    assert (first.user, second.user) == ("alice", "iap:alice")


async def test_a_token_in_another_issuers_header(both: Desk, dex: Issuer, iap: Issuer) -> None:
    """A token in a header of another issuer is refused."""
    assert await both.fault({IAP: dex.token()}) == "issuer_unknown"
    assert await both.fault(bearer(iap.token())) == "issuer_unknown"


async def test_other_headers_carry_the_bare_token(both: Desk, iap: Issuer) -> None:
    """Only `authorization` has a scheme; elsewhere it is junk, as is a second value."""
    assert await both.fault({IAP: f"Bearer {iap.token()}"}) == "token_malformed"
    assert await both.fault({IAP: f"{iap.token()},{iap.token()}"}) == "credential_ambiguous"
    assert await both.fault({IAP: ""}) == "token_malformed"


async def test_bare_tokens_have_the_same_limit(both: Desk) -> None:
    """The length of the scheme is no extra room for a token that has none."""
    assert await both.fault({IAP: "a" * 16385}) == "token_too_large"
    assert await both.fault({IAP: "a" * 16384}) == "token_malformed"


async def test_jwt_037_two_credentials(both: Desk, dex: Issuer, iap: Issuer) -> None:
    """Two headers with a credential are refused, even if one is not valid: nothing is mixed or passed over."""
    for value in (iap.token(), iap.token(sub="bob"), "junk", ""):
        assert await both.fault({**bearer(dex.token()), IAP: value}) == "credential_ambiguous"


async def test_an_issuers_key_does_not_sign_for_another(tmp_path: Path) -> None:
    """A token that names one issuer and is signed by another is refused, even with the same key id."""
    dex = Issuer(name="https://dex.example", keys=[rsa_key("shared")])
    evil = Issuer(name="https://evil.example", keys=[rsa_key("shared", algorithm="RS384")])
    desk = Desk(tmp_path, dex, evil)
    desk.open(algorithms=["RS256", "RS384"])
    assert await desk.ask(bearer(evil.token()))
    assert await desk.fault(bearer(evil.token(iss=dex.name))) == "key_unknown"
    twin = Issuer(name=dex.name, keys=[rsa_key("shared", bits=3072)])
    assert await desk.fault(bearer(twin.token())) == "signature_invalid"
