"""What remembered tokens say."""

from __future__ import annotations

from extauthz.identity.verified import KnownClaims
from tests.issuer import Issuer


def test_the_claims_of_a_remembered_token_are_those_that_were_signed() -> None:
    issuer = Issuer()
    claims = KnownClaims("authorization", f"Bearer {issuer.token(team='a', nested={'of': [1, None]})}")
    assert claims == issuer.claims(team="a", nested={"of": [1, None]})
    assert len(claims) == len(issuer.claims(team="a", nested={}))
    assert claims["nested"] == {"of": [1, None]}
    assert claims.get("absent") is None


def test_nobody_can_change_what_a_remembered_token_says() -> None:
    claims = KnownClaims("x-goog-iap-jwt-assertion", Issuer().token(nested={"of": []}))
    claims["nested"]["of"].append("more")
    assert claims["nested"] == {"of": []}
