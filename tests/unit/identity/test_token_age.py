"""maxTokenAgeSeconds: a token that was issued too long ago is refused, whatever it says of its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.issuer import ABSENT, NOW, Issuer, asking, bearer
from tests.unit.identity.conftest import Desk

Opened = Callable[..., Desk]


@pytest.mark.parametrize(
    ("iat", "outcome"),
    [(NOW, ""), (NOW - 629, ""), (NOW - 630, "token_too_old"), (0, "token_too_old"), (ABSENT, "claim_invalid")],
)
async def test_the_age_counts_from_iat(opened: Opened, issuer: Issuer, iat: Any, outcome: str) -> None:
    """With the same leeway as other times; a token that does not tell its age is refused."""
    desk = opened(maxTokenAgeSeconds=600)
    headers = bearer(issuer.token(iat=iat, exp=NOW + 100_000))
    if outcome:
        assert await desk.fault(headers) == outcome
    else:
        assert await desk.ask(headers)


async def test_a_known_token_ages_too(opened: Opened, issuer: Issuer) -> None:
    """What is remembered ends with the allowed age."""
    desk = opened(maxTokenAgeSeconds=100)
    headers = bearer(issuer.token(iat=NOW, exp=NOW + 100_000))
    known = await desk.ask(headers)
    desk.clock.now += 129
    assert desk.authenticator.authenticate(asking(headers)) is known
    desk.clock.now += 1
    assert await desk.fault(headers) == "token_too_old"


async def test_without_the_setting_age_does_not_count(desk: Desk, issuer: Issuer) -> None:
    """`exp` alone decides, with or without `iat`."""
    assert await desk.ask(bearer(issuer.token(iat=0)))
    assert await desk.ask(bearer(issuer.token(iat=ABSENT)))
