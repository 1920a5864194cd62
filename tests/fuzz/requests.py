"""Fuzz targets that read a request, or a part of one: whatever passes must be what the oracle lets pass."""

from __future__ import annotations

import asyncio
from pathlib import Path

from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from extauthz.edge import check
from extauthz.errors import CredentialError, ExtauthzError
from extauthz.gateway import Gateway
from extauthz.lookup.artifact import namespace_of_key, run_of_key
from extauthz.request import Body, Request, read
from tests.cases import ALICE, Named, decided, gateway, policy_of
from tests.issuer import Issuer, asking, bearer, rsa_key
from tests.security.oracle import RULES, Asked, Table, may_pass
from tests.unit.identity.conftest import Desk

MAX_BODY_BYTES = 4096
NAMESPACE_CHARACTERS = set("abcdefghijklmnopqrstuvwxyz0123456789-")


def alices(folder: Path) -> Gateway:
    """Return a gateway over the oracle's policy, to which everybody is alice; it needs a table of rights yet."""
    return gateway(policy=policy_of(folder, RULES), authenticator=Named(ALICE))


def alice_may(method: str, target: str, body: Body) -> bool:
    """Ask the oracle."""
    path, _, query = target.partition("?")
    return may_pass(Asked(ALICE, method, path, query, body))


def refuses(reply: CheckResponse) -> bool:
    """Whether Envoy takes an answer for a refusal; what is neither that nor an allow fails."""
    if not reply.status.code:
        assert reply.HasField("ok_response")
        return False
    assert reply.denied_response.status.code >= 300
    for option in reply.denied_response.headers:
        assert option.header.value.isprintable(), option
    return True


class Judge:
    """A gateway, and the oracle."""

    def __init__(self, folder: Path) -> None:
        self._gateway = alices(folder)

    def __call__(self, request: Request) -> None:
        self._gateway.authorizer = Table()
        decision = decided(self._gateway.decide(request))
        assert refuses(check.response_of(decision, request)) is not decision.allowed
        assert not decision.allowed or alice_may(request.method, request.target, request.body), request


class CheckRequest:
    """The bytes of a CheckRequest."""

    def __init__(self, folder: Path) -> None:
        self._judge = Judge(folder)

    def __call__(self, data: bytes) -> None:
        try:
            request = check.parse(data, max_body_bytes=MAX_BODY_BYTES)
        except ExtauthzError:
            return
        self._judge(request)


class Canon:
    """A method, a target and a body, each on a line."""

    def __init__(self, folder: Path) -> None:
        self._judge = Judge(folder)

    def __call__(self, data: bytes) -> None:
        method, _, rest = data.partition(b"\n")
        target, _, body = rest.partition(b"\n")
        self._judge(read(method=method.decode("latin-1"), target=target.decode("latin-1"), headers={}, body=Body(body)))


class Token:
    """An `authorization` header that the issuer did not make."""

    def __init__(self, folder: Path) -> None:
        issuer = Issuer(keys=[rsa_key("fuzz")])
        self._valid = bearer(issuer.token())["authorization"]
        desk = Desk(folder, issuer)
        self._authenticator = desk.open()
        assert asyncio.run(desk.ask({"authorization": self._valid}))

    def __call__(self, data: bytes) -> None:
        text = data.decode("latin-1")
        if text == self._valid:
            return
        try:
            subject = self._authenticator.authenticate(asking({"authorization": text}))
        except CredentialError:
            return
        assert subject is None, text


def artifact_key(data: bytes) -> None:
    """A key names the namespace in its prefix, or none; and no second reading of it names another."""
    key = data.decode("utf-8", errors="replace")
    owner = namespace_of_key(key)
    if owner is not None:
        assert set(owner) <= NAMESPACE_CHARACTERS
        assert key.split("/")[1] == owner
    if owner is not None or run_of_key(key) is not None:
        assert not {"", ".", ".."} & set(key.split("/")[:-1])
        assert key.isprintable() or not any(character < " " for character in key)
