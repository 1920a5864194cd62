"""Whom a pasted token proves, wherever the settings expect their tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from extauthz.access import rbac
from extauthz.console.guard import SEE, Guard, pasted
from extauthz.errors import CredentialError
from extauthz.identity import Authenticators
from extauthz.settings.identity import Identity
from tests.cases import DATA
from tests.issuer import NOW, Issuer

IAP = "x-goog-iap-jwt-assertion"
GATEWAY = "spiffe://cluster.local/ns/istio-system/sa/gateway"


@asynccontextmanager
async def guarding(folder: Path, issuer: Issuer, **identity: Any) -> AsyncIterator[Guard]:
    """A guard that believes an issuer, whose tokens come in IAP's header."""
    (folder / "keys.json").write_bytes(issuer.jwks())
    jwt = {"issuer": issuer.name, "audiences": [issuer.audience], "keys": {"file": "keys.json"}, "header": IAP}
    settings = Identity.model_validate({"jwt": [jwt], **identity})
    authenticators = Authenticators(settings, resolve=folder.joinpath, clock=lambda: NOW)
    await authenticators.start()
    rights = rbac.RbacAuthorizer(rbac.load([DATA / "cases" / "rbac.yaml"]))
    try:
        yield Guard(authenticators, rights, headers=("authorization", IAP), hosts=("localhost",))
    finally:
        await authenticators.stop()


@pytest.mark.parametrize("identity", [{}, {"header": {"principals": [GATEWAY]}}, {"peer": {"principals": [GATEWAY]}}])
async def test_a_token_counts_whatever_header_it_came_in(tmp_path: Path, identity: dict[str, Any]) -> None:
    """A person pastes a token, and does not know in which header the gateway sends it."""
    issuer = Issuer()
    async with guarding(tmp_path, issuer, **identity) as guard:
        subject = await guard.verified(issuer.token())
        assert (subject.user, subject.authenticator) == ("alice", f"jwt:{issuer.name}")
        assert not await guard.may(subject, SEE)
        with pytest.raises(CredentialError):
            await guard.verified(Issuer("https://other.example").token())
        with pytest.raises(CredentialError):
            await guard.verified(issuer.token(exp=NOW - 3600))


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("a.b.c", "a.b.c"),
        ("  Bearer  a.b.c\n", "a.b.c"),
        ("bearer a.b-_=", "a.b-_="),
        ("a b", ""),
        ("a\r\nset-cookie: x", ""),
        ("größe", ""),
        ("", ""),
    ],
)
def test_what_is_pasted_is_a_token_or_nothing(text: str, token: str) -> None:
    """It becomes a cookie, so nothing else may be in it."""
    assert pasted(text) == token
