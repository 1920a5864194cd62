"""An identity provider for tests: keys, tokens (honest and hostile), and a key server with faults.

`Issuer` needs no network. `KeyServer` serves its JWKS and discovery document on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import gzip
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from extauthz.request import Request, read
from extauthz.steps import Authenticator
from extauthz.subject import Subject

NOW = 1_800_000_000
"""The Unix time at which the tests play."""
ABSENT: Any = object()
"""The value that takes a claim or a header member away."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class SigningKey:
    """A private key with the id and the algorithm it signs under."""

    id: str
    algorithm: str
    private: PrivateKey = field(repr=False)

    def sign(self, text: bytes, algorithm: str | None = None) -> bytes:
        """Return the raw signature of `text`."""
        method = jwt.PyJWS().get_algorithm_by_name(algorithm or self.algorithm)
        return method.sign(text, self.private)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public key as a JWK; a change to ABSENT takes a member away."""
        method = jwt.PyJWS().get_algorithm_by_name(self.algorithm)
        public = method.to_jwk(self.private.public_key(), as_dict=True)
        return changed({**public, "kid": self.id, "use": "sig", "alg": self.algorithm}, changes)


@functools.cache
def rsa_key(key_id: str, *, bits: int = 2048, algorithm: str = "RS256") -> SigningKey:
    """Make an RSA key; the same id gives the same key for the whole test run."""
    return SigningKey(key_id, algorithm, rsa.generate_private_key(65537, bits))


@functools.cache
def ec_key(key_id: str, curve: ec.EllipticCurve | None = None, *, algorithm: str = "ES256") -> SigningKey:
    """Make an EC key, on P-256 unless told otherwise."""
    return SigningKey(key_id, algorithm, ec.generate_private_key(curve or ec.SECP256R1()))


@functools.cache
def ed_key(key_id: str) -> SigningKey:
    """Make an Ed25519 key."""
    return SigningKey(key_id, "EdDSA", ed25519.Ed25519PrivateKey.generate())


def segment(data: bytes | Mapping[str, Any]) -> str:
    """Encode raw bytes, or a mapping as JSON, as a segment of a compact token."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def compact(header: bytes | Mapping[str, Any], payload: bytes | Mapping[str, Any], key: SigningKey) -> str:
    """Sign whatever is given, as it is, with the key's own algorithm."""
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(key.sign(signed.encode()))}"


def asking(headers: Mapping[str, str], *, peer: str = "", target: str = "/x", host: str = "") -> Request:
    """Return a request with these headers, from a mesh peer where one is given."""
    return read(method="GET", target=target, headers=headers, host=host, peer=peer)


async def authenticated(authenticator: Authenticator, request: Request) -> Subject | None:
    """Return who asks, waiting for keys or answers where that is needed."""
    answer = authenticator.authenticate(request)
    return answer if answer is None or isinstance(answer, Subject) else await answer


def bearer(token: str) -> dict[str, str]:
    """Return the request headers that carry a token the usual way."""
    return {"authorization": f"Bearer {token}"}


@dataclass
class Issuer:
    """Signs tokens under a name. `keys[0]` signs; all keys are published."""

    name: str = "https://idp.example"
    audience: str = "kubeflow"
    keys: list[SigningKey] = field(default_factory=lambda: [rsa_key("key-1")])

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token for alice, with changes; ABSENT takes a claim away."""
        good = {"iss": self.name, "aud": self.audience, "sub": "alice", "iat": NOW - 60, "exp": NOW + 3600}
        return changed(good, changes)

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return the header of a good token, with changes."""
        return changed({"alg": self.keys[0].algorithm, "kid": self.keys[0].id, "typ": "JWT"}, changes)

    def token(self, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Return a token signed with the first key; `header` and `claims` are changes to a good one."""
        return compact(self.header(**(header or {})), self.claims(**claims), self.keys[0])

    def jwks(self) -> bytes:
        """Return the public keys as a JWKS."""
        return json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()


Fault = Literal["error", "garbage", "huge", "redirect", "slow", "empty", "compressed"]


class KeyServer:
    """Serves an issuer's keys, counts the fetches, and fails the way it is told.

    With `fault = "slow"` a request sets `arrived` and is answered once `release` is set.
    """

    def __init__(self, issuer: Issuer, tls: ssl.SSLContext | None = None) -> None:
        self.issuer = issuer
        self._tls = tls
        self.fault: Fault | None = None
        self.fetches = 0
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.discovery: dict[str, Any] = {}
        self._port = 0

    async def __aenter__(self) -> KeyServer:
        application = web.Application()
        application.router.add_get("/jwks", self._jwks)
        application.router.add_get("/moved", self._moved)
        application.router.add_get("/.well-known/openid-configuration", self._discovery)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        await self._runner.cleanup()

    async def up(self) -> None:
        """Listen, on the same port as before."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await self._site.start()
        self._port = self._runner.addresses[0][1]

    async def down(self) -> None:
        """Stop listening: connections are refused."""
        await self._site.stop()

    @property
    def url(self) -> str:
        """The address of the server, without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def _jwks(self, _: web.Request) -> web.StreamResponse:
        self.fetches += 1
        answer = web.Response(body=self.issuer.jwks(), content_type="application/json")
        if self.fault == "slow":
            self.arrived.set()
            await self.release.wait()
        if self.fault == "redirect":
            raise web.HTTPFound("/moved")
        return self._faulty() or answer

    def _faulty(self) -> web.Response | None:
        answers = {
            "error": web.Response(status=500),
            "garbage": web.Response(body=b"<html>\xff"),
            "huge": web.Response(body=b" " * (1024 * 1024) + self.issuer.jwks()),
            "empty": web.Response(body=b'{"keys": []}'),
            "compressed": web.Response(body=gzip.compress(self.issuer.jwks()), headers={"content-encoding": "gzip"}),
        }
        return answers.get(self.fault or "")

    async def _moved(self, _: web.Request) -> web.Response:
        return web.Response(body=self.issuer.jwks())

    async def _discovery(self, _: web.Request) -> web.Response:
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        return web.json_response(changed(document, self.discovery))


def changed(good: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return members with changes; a change to ABSENT takes a member away."""
    return {name: value for name, value in {**good, **changes}.items() if value is not ABSENT}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Pauses:
    """Stands in for `asyncio.sleep`: notes each pause and ends it when `end` is called."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[float] = asyncio.Queue()
        self._ends: list[asyncio.Future[None]] = []

    async def __call__(self, seconds: float) -> None:
        end = asyncio.get_running_loop().create_future()
        self._ends.append(end)
        self.begun.put_nowait(seconds)
        await end

    def end(self) -> None:
        """End all pauses that have begun."""
        for end in self._ends:
            if not end.done():
                end.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the last pause with an error."""
        self._ends[-1].set_exception(error)
