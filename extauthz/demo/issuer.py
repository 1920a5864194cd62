"""A token issuer for the local mesh: one RSA key, OIDC discovery, and a JWKS.

The key and the issuer's address are kept in a folder that only its owner may enter, so
that `extauthz token` can sign in another terminal, and tokens survive a restart.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from extauthz.demo import HOST, DemoError

AUDIENCE = "kubeflow"
LIFETIME_SECONDS = 3600
_CACHE_CONTROL = {"cache-control": "public, max-age=300"}


def state_folder() -> Path:
    """Return where the demo keeps its files unless it is told otherwise (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "extauthz" / "demo"


class Signer:
    """Signs tokens in the name of one issuer."""

    def __init__(self, key: rsa.RSAPrivateKey, issuer: str) -> None:
        self._key = key
        self.issuer = issuer
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self.jwk = {**public, "kid": _thumbprint(public), "alg": "RS256", "use": "sig"}

    @classmethod
    def load(cls, folder: Path) -> Signer:
        """Sign as the demo that ran last with this state folder. Raises DemoError when none did."""
        try:
            return cls(_read_key(folder), (folder / "issuer").read_text())
        except FileNotFoundError as error:
            raise DemoError(f"No demo has run yet with the state folder {folder}: start `extauthz demo`.") from error

    def sign(self, user: str, groups: Sequence[str] = (), *, lifetime: int = LIFETIME_SECONDS) -> str:
        """Return a token for a user. `lifetime` is in seconds; a negative one has already passed."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": user,
            "email": user,
            "groups": list(groups),
            "iat": now + min(0, lifetime - 1),
            "exp": now + lifetime,
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self.jwk["kid"]})


class Issuer:
    """Serves what a verifier needs, on 127.0.0.1, as an async context manager.

    `signer` and `url` are there while it runs. The port of the last run is tried first,
    because the address is part of every token.
    """

    signer: Signer

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.2)

    @property
    def url(self) -> str:
        """The `iss` of the tokens, below which discovery is served."""
        return self.signer.issuer

    async def __aenter__(self) -> Self:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _kept_key(self._folder)
        await self._runner.setup()
        await self._listen()
        self.signer = Signer(key, f"http://{HOST}:{self._runner.addresses[0][1]}")
        (self._folder / "issuer").write_text(self.signer.issuer)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _listen(self) -> None:
        with suppress(OSError, ValueError):  # never run, or the port is taken now
            last = int((self._folder / "issuer").read_text().rpartition(":")[2])
            return await web.TCPSite(self._runner, HOST, last).start()
        return await web.TCPSite(self._runner, HOST, 0).start()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        documents: dict[str, Any] = {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "id_token_signing_alg_values_supported": ["RS256"],
            },
            "/jwks": {"keys": [self.signer.jwk]},
        }
        if request.path not in documents:
            return web.json_response({"error": "not found"}, status=404)
        return web.json_response(documents[request.path], headers=_CACHE_CONTROL)


def _kept_key(folder: Path) -> rsa.RSAPrivateKey:
    """Return the folder's key, made at the first run and readable by its owner only."""
    with suppress(FileNotFoundError):
        return _read_key(folder)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    return key


def _read_key(folder: Path) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise DemoError(f"{folder / 'key.pem'} is not an RSA key: remove it, and the demo makes a new one.")
    return key


def _thumbprint(jwk: dict[str, Any]) -> str:
    """Return the key id: its SHA-256 thumbprint (RFC 7638)."""
    members = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    return hashlib.sha256(members.encode()).hexdigest()
