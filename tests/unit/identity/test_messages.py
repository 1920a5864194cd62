"""What a refused caller is told: one sentence that says which part of the credential is at fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from extauthz.errors import CredentialError, Unavailable
from tests.issuer import ABSENT, NOW, Issuer, bearer, compact, rsa_key, segment
from tests.loadbalancer import HEADER as ALB_HEADER
from tests.loadbalancer import LOAD_BALANCER
from tests.unit.identity.conftest import Desk

Opened = Callable[..., Desk]

ISSUER = Issuer()
ALB = "x-amzn-oidc-data"


async def told(desk: Desk, headers: dict[str, str]) -> str:
    """Return the sentence with which headers are refused."""
    with pytest.raises((CredentialError, Unavailable)) as refused:
        await desk.ask(headers)
    assert isinstance(refused.value, CredentialError | Unavailable)
    return refused.value.message


def padded(header: dict[str, Any]) -> dict[str, str]:
    """Return a token with padding, which only load balancers may write."""
    parts = (segment(header), segment(ISSUER.claims()), "AA")
    return {"authorization": "Bearer " + ".".join(f"{part}{'=' * (-len(part) % 4)}" for part in parts)}


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (bearer("a" * 20_000), "the token is larger than 16384 bytes"),
        (bearer("a,b"), "header authorization holds more than one value"),
        ({"authorization": "Basic YTpi"}, "the authorization scheme must be Bearer"),
        (bearer("junk"), "the credential is not a signed JSON Web Token"),
        (bearer("AAAA.e30.AAAA"), "the token's header is not one unambiguous JSON object"),
        (bearer("e30.AAAA.AAAA"), "the token's payload is not one unambiguous JSON object"),
        (bearer(ISSUER.token(iss="other")), "the token is from an issuer that is not accepted"),
        (padded(ISSUER.header()), "the token's segments are padded"),
        (bearer(ISSUER.token({"crit": ["exp"]})), "the token needs an unsupported extension"),
        (bearer(ISSUER.token({"alg": "RS512"})), "the token's algorithm is not allowed"),
        (bearer(ISSUER.token({"kid": 7})), "the token's key id is not text"),
        (bearer(ISSUER.token({"typ": "at+jwt"})), "the token is not of the required type"),
        (bearer(ISSUER.token({"kid": "key-2"})), "the token is signed with an unknown key"),
        (bearer(compact(ISSUER.header(), ISSUER.claims(), rsa_key("m"))), "the token's signature is not valid"),
        (bearer(ISSUER.token(aud="others")), "the token is meant for others"),
        (bearer(ISSUER.token(jti=7)), "the token is not valid"),
        (bearer(ISSUER.token(exp=ABSENT)), "claim exp is missing"),
        (bearer(ISSUER.token(exp="soon")), "claim exp is not a time in whole seconds"),
        (bearer(ISSUER.token(exp=NOW - 3600)), "the token has expired"),
        (bearer(ISSUER.token(nbf=NOW + 3600)), "claim nbf lies in the future"),
        (bearer(ISSUER.token(sub="system:admin")), "claim sub names a reserved user"),
        (bearer(ISSUER.token(sub=" a")), "claim sub must be text that is not empty and has no space at its ends"),
        (bearer(ISSUER.token(sub="a\0b")), "claim sub holds a control character"),
        (bearer(ISSUER.token(sub="a" * 1025)), "claim sub is longer than 1024 bytes"),
        (bearer(ISSUER.token(groups={})), "claim groups must be text or a list of at most 1024 texts"),
        (bearer(ISSUER.token(groups=["a\0b"])), "claim groups holds a control character"),
    ],
)
async def test_a_refused_token_is_told_what_is_wrong_with_it(
    opened: Opened, headers: dict[str, str], message: str
) -> None:
    assert await told(opened(claims={"groups": "groups"}), headers) == message


@pytest.mark.parametrize(
    ("iat", "message"),
    [(ABSENT, "claim iat is missing"), (NOW - 3600, "the token was issued too long ago")],
)
async def test_a_token_without_an_age_is_told_another_thing_than_an_old_one(
    opened: Opened, issuer: Issuer, iat: Any, message: str
) -> None:
    assert await told(opened(maxTokenAgeSeconds=600), bearer(issuer.token(iat=iat))) == message


async def test_where_two_headers_carry_a_credential_both_are_named(opened: Opened, issuer: Issuer) -> None:
    desk = opened(header="x-second")
    desk.configured["jwt"].append({**desk.configured["jwt"][0], "issuer": "https://b.example", "header": "x-first"})
    desk.open()
    headers = {"x-first": issuer.token(), "x-second": issuer.token()}
    assert await told(desk, headers) == "headers x-second and x-first both carry a credential"


async def test_a_bare_token_beyond_the_limit_is_told_the_limit(opened: Opened) -> None:
    assert await told(opened(header="x-token"), {"x-token": "a" * 16385}) == "the token is larger than 16384 bytes"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"signer": f"{LOAD_BALANCER}2"}, "the token is signed by another load balancer"),
        ({"client": "others"}, "the token is meant for others"),
    ],
)
async def test_another_load_balancers_token_is_told_from_another_clients(
    desk: Desk, issuer: Issuer, header: dict[str, str], message: str
) -> None:
    desk.configured["jwt"][0]["keys"] = {"pemUrl": "http://127.0.0.1:9/{kid}"}
    desk.open(header=ALB, albSigner=LOAD_BALANCER, algorithms=["ES256"])
    assert await told(desk, {ALB: issuer.token({**ALB_HEADER, **header})}) == message


async def test_without_keys_the_token_is_not_called_wrong(opened: Opened, issuer: Issuer) -> None:
    """The caller is told when it is worth another try, in whole seconds and at least one."""
    desk = opened()
    (desk.folder / "0.json").unlink()
    good = bearer(issuer.token())
    for later, retry_after in ((0, 10), (0.5, 10), (9, 1), (0.4, 1)):
        desk.monotonic.now += later
        with pytest.raises(Unavailable) as refused:
            await desk.ask(good)
        assert refused.value.message == "the keys of the token's issuer are not available"
        assert refused.value.retry_after == retry_after
