"""An attacker who changes a load balancer's token, or has one of another load balancer's, gets nothing.

Its key is fetched once, before; then the publisher is gone, and whatever comes is refused at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.errors import CredentialError, Unavailable
from extauthz.identity import TokenAuthenticator
from extauthz.settings.identity import Identity
from tests.issuer import ABSENT, NOW, Clock, Issuer, SigningKey, asking, changed, ec_key, segment
from tests.loadbalancer import HEADER, LOAD_BALANCER, LoadBalancer
from tests.site import Site
from tests.unit.identity.test_mutations import JSON, changes

WHERE = "x-amzn-oidc-data"
KEY, SIBLING, MALLORY = (ec_key(f"0a1b2c3d-0000-4000-8000-00000000000{number}") for number in range(3))
"""Ours; another load balancer's of the region, whose key is published like ours; and nobody's."""
ISSUER = Issuer()
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "alg": st.sampled_from(["none", "HS256", "RS256", "ES384", "ES256K", "", ABSENT]),
    "kid": st.sampled_from([SIBLING.id, MALLORY.id, KEY.id.upper(), f"{KEY.id}/", f"../{KEY.id}", "%2e", "", ABSENT]),
    "signer": st.sampled_from([f"{LOAD_BALANCER}2", LOAD_BALANCER[:-1], LOAD_BALANCER.upper(), LOAD_BALANCER + " "])
    | st.sampled_from([f" {LOAD_BALANCER}", [LOAD_BALANCER], {LOAD_BALANCER: 1}, "", "*", None, ABSENT]),
    "client": st.sampled_from(["kubeflo", "kubeflow ", "KUBEFLOW", ["kubeflow"], "", "*", None, ABSENT]),
    "typ": st.sampled_from(["JWE", "at+jwt", "", ABSENT]),
    "iss": st.sampled_from([ISSUER.name, "https://evil.example"]),
    "exp": st.sampled_from([NOW + 10**6, 0, "never"]),
    "crit": st.just(["signer"]),
    "jwk": st.just(MALLORY.jwk(kid=KEY.id)),
    "jku": st.just("https://evil.example/jwks"),
    "x5u": st.just("https://evil.example/chain"),
}
CLAIMS: dict[str, st.SearchStrategy[Any]] = {
    "sub": st.sampled_from(["bob", "system:admin", ABSENT]),
    "exp": st.sampled_from([NOW + 10**6, NOW - 3600, "never", None, ABSENT]),
    "iss": st.sampled_from([f"{ISSUER.name}/", "https://evil.example", None, ABSENT]),
    "aud": st.sampled_from(["kubeflow", [], ABSENT]),
    "signer": st.just(LOAD_BALANCER),
}
Refuse = Callable[[str], None]
enough = settings(max_examples=150)


def padded(text: str) -> str:
    """Return a segment with its padding."""
    return text + "=" * (-len(text) % 4)


def token(header: dict[str, Any], claims: dict[str, Any], key: SigningKey) -> str:
    """Sign as a load balancer does: what is signed is padded, too."""
    signed = f"{padded(segment(header))}.{padded(segment(claims))}"
    return f"{signed}.{padded(segment(key.sign(signed.encode())))}"


CLAIMED = ISSUER.claims(aud=ABSENT, name="A")
HONEST = {**HEADER, "kid": KEY.id, "iss": ISSUER.name, "exp": NOW + 120}
GOOD = token(HONEST, CLAIMED, KEY)


async def opened(folder: Any) -> TokenAuthenticator:
    """Return an authenticator that has fetched both published keys, and will fetch no more: its clock stands still."""
    async with Site() as site:
        for key in (KEY, SIBLING):
            LoadBalancer(site, key)
        configured = {
            "issuer": ISSUER.name,
            "audiences": [ISSUER.audience],
            "algorithms": ["ES256"],
            "header": WHERE,
            "albSigner": LOAD_BALANCER,
            "keys": {"pemUrl": site.url + "/{kid}"},
        }
        clock = Clock(0)
        authenticator = TokenAuthenticator(
            Identity.model_validate({"jwt": [configured]}), resolve=folder.joinpath, clock=Clock(), monotonic=clock
        )
        for key in (KEY, SIBLING):
            clock.now += 11
            answer = authenticator.authenticate(asking({WHERE: token({**HEADER, "kid": key.id}, CLAIMED, key)}))
            assert inspect.isawaitable(answer)
            assert await answer
        return authenticator


@pytest.fixture(scope="module")
def refuse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refuse]:
    """Check that a credential is refused at once: as bad, or for want of a key that nobody has."""
    authenticator = asyncio.run(opened(tmp_path_factory.mktemp("alb")))

    def check(credential: str) -> None:
        with pytest.raises((CredentialError, Unavailable)):
            authenticator.authenticate(asking({WHERE: credential}))

    yield check
    assert authenticator.authenticate(asking({WHERE: GOOD}))


@enough
@given(header=changes(MEMBERS), claims=changes(CLAIMS))
def test_changed_members_under_an_old_signature(refuse: Refuse, header: dict[str, Any], claims: dict[str, Any]) -> None:
    """Whatever is changed without the key is refused, in the padded form and in the other."""
    for pad in (padded, str):
        signed = f"{pad(segment(changed(HONEST, header)))}.{pad(segment(ISSUER.claims(**{'aud': ABSENT, **claims})))}"
        if not GOOD.startswith(f"{signed}."):
            refuse(f"{signed}.{GOOD.rpartition('.')[2]}")


@enough
@given(
    where=st.fixed_dictionaries({"signer": MEMBERS["signer"]}) | st.fixed_dictionaries({"client": MEMBERS["client"]}),
    header=changes({name: values for name, values in MEMBERS.items() if name not in ("signer", "client")}),
    key=st.sampled_from([KEY, SIBLING]),
)
def test_tokens_of_another_load_balancer(
    refuse: Refuse, where: dict[str, Any], header: dict[str, Any], key: SigningKey
) -> None:
    """A region's keys sign for everybody's load balancers, so a good signature proves neither signer nor client."""
    for more in ({}, {name: value for name, value in header.items() if name not in ("signer", "client")}):
        refuse(token(changed(HONEST, {"kid": key.id, **more, **where}), CLAIMED, key))


@enough
@given(header=changes(MEMBERS), claims=changes(CLAIMS))
def test_tokens_of_a_stranger(refuse: Refuse, header: dict[str, Any], claims: dict[str, Any]) -> None:
    """Whatever a stranger writes, under any key id, is refused."""
    refuse(token(changed(HONEST, header), ISSUER.claims(**{"aud": ABSENT, **claims}), MALLORY))


@enough
@given(claims=st.dictionaries(st.sampled_from(["exp", "iat", "nbf", "iss"]), JSON | st.just(ABSENT), min_size=1))
def test_claims_that_a_load_balancer_never_makes(refuse: Refuse, claims: dict[str, Any]) -> None:
    """Times and issuer are the payload's, whatever the header repeats of them, and are no other kinds of values."""
    honest = {name: value for name, value in claims.items() if name == "iss" or type(value) is not int}
    if honest.keys() & {"exp", "iss"}:
        refuse(token(HONEST, ISSUER.claims(**{"aud": ABSENT, **honest}), KEY))


@enough
@given(position=st.integers(0, len(GOOD)), pads=st.integers(1, 3))
def test_padding_elsewhere(refuse: Refuse, position: int, pads: int) -> None:
    """Padding is where a segment ends, and as long as it must be."""
    refuse(GOOD[:position] + "=" * pads + GOOD[position:])


def test_padding_that_is_missing(refuse: Refuse) -> None:
    """A token is padded everywhere or nowhere, and what was signed padded is good in no other form."""
    assert GOOD.count("=.") == 2
    for position in (index for index, character in enumerate(GOOD) if character == "="):
        refuse(GOOD[:position] + GOOD[position + 1 :])
    refuse(GOOD.replace("=", ""))
    refuse(GOOD.rstrip("="))


async def test_an_audience_among_the_claims_is_the_identity_providers(tmp_path: Path) -> None:
    """The header's `client` says whom a load balancer's token is for, whatever the user-info endpoint said."""
    authenticator = await opened(tmp_path)
    for audience in ("others", ISSUER.audience, None):
        assert authenticator.authenticate(asking({WHERE: token(HONEST, ISSUER.claims(aud=audience), KEY)}))
