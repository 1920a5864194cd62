"""One issuer with its keys in a file, and an authenticator that believes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from extauthz.errors import CredentialError
from extauthz.identity import TokenAuthenticator
from extauthz.settings.identity import Identity, JwtIssuer
from extauthz.subject import Subject
from tests.issuer import Clock, Issuer, asking, authenticated


class Desk:
    """An authenticator with the clock and the key file it lives by."""

    def __init__(self, folder: Path, *issuers: Issuer, **identity: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        self.monotonic = Clock(0)
        self.configured = {
            "jwt": [{"issuer": issuer.name, "audiences": [issuer.audience], "keys": {}} for issuer in issuers],
            **identity,
        }
        for number, issuer in enumerate(issuers):
            file = f"{number}.json"
            self.publish(file, issuer.jwks())
            self.configured["jwt"][number]["keys"]["file"] = file

    def publish(self, file: str, jwks: bytes) -> None:
        """Write a key file."""
        (self.folder / file).write_bytes(jwks)

    def open(self, **changes: Any) -> TokenAuthenticator:
        """Build the authenticator; `changes` go to every issuer's settings."""
        for configured in self.configured["jwt"]:
            configured["keys"].update(changes.pop("keys", {}))
            configured.update(changes)
        identity = Identity.model_validate(self.configured)
        self.authenticator = TokenAuthenticator(
            identity, resolve=self.folder.joinpath, clock=self.clock, monotonic=self.monotonic
        )
        return self.authenticator

    async def ask(self, headers: Mapping[str, str]) -> Subject | None:
        """Authenticate, waiting for keys where that is needed."""
        return await authenticated(self.authenticator, asking(headers))

    async def fault(self, headers: Mapping[str, str]) -> str:
        """Return the reason why headers are refused."""
        with pytest.raises(CredentialError) as refused:
            await self.ask(headers)
        return refused.value.reason


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def desk(tmp_path: Path, issuer: Issuer) -> Desk:
    """An opened desk with default settings."""
    desk = Desk(tmp_path, issuer)
    desk.open()
    return desk


@pytest.fixture
def opened(tmp_path: Path, issuer: Issuer) -> Callable[..., Desk]:
    """Build a desk whose issuer's settings differ from the defaults."""

    def open_desk(**changes: Any) -> Desk:
        desk = Desk(tmp_path, issuer)
        desk.open(**changes)
        return desk

    return open_desk


@pytest.fixture
def jwt_issuer() -> Callable[..., JwtIssuer]:
    """Build the settings of one issuer."""

    def build(**changes: Any) -> JwtIssuer:
        settings = {"issuer": "https://idp.example", "audiences": ["kubeflow"], "keys": {"file": "jwks.json"}}
        return JwtIssuer.model_validate({**settings, **changes})

    return build
