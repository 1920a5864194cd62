"""The demo's issuer: what it publishes, what it signs, and how it keeps its key."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import jwt
import pytest
from aiohttp import ClientSession
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from extauthz.demo import DemoError
from extauthz.demo.issuer import AUDIENCE, Issuer, Signer, state_folder


async def test_token_verifies_with_the_keys_found_by_discovery(tmp_path: Path) -> None:
    """A verifier that knows only the issuer finds the key and accepts the token."""
    async with Issuer(tmp_path) as issuer, ClientSession() as client:
        async with client.get(f"{issuer.url}/.well-known/openid-configuration") as response:
            discovery = await response.json()
        async with client.get(discovery["jwks_uri"]) as response:
            assert response.headers["cache-control"] == "public, max-age=300"
            keys = jwt.PyJWKSet.from_dict(await response.json())
        token = issuer.signer.sign("alice@example.com", ["data-auditors"])
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=discovery["issuer"])
    assert claims["email"] == claims["sub"] == "alice@example.com"
    assert claims["groups"] == ["data-auditors"]
    assert claims["exp"] - claims["iat"] == 3600


async def test_token_can_be_made_expired(tmp_path: Path) -> None:
    """A negative lifetime gives a token that has expired and was issued before that."""
    async with Issuer(tmp_path) as issuer:
        token = issuer.signer.sign("alice@example.com", lifetime=-60)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iat"] < claims["exp"] < time.time()


async def test_unknown_paths_are_not_found(tmp_path: Path) -> None:
    """The issuer serves its two documents and nothing else."""
    async with Issuer(tmp_path) as issuer, ClientSession() as client, client.get(f"{issuer.url}/key.pem") as response:
        assert response.status == 404


async def test_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """The folder and the private key are closed to everyone else."""
    folder = tmp_path / "state"
    async with Issuer(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600


async def test_restart_keeps_issuer_and_key(tmp_path: Path) -> None:
    """Tokens survive a restart: same address, same key."""
    async with Issuer(tmp_path) as first:
        before = (first.url, first.signer.jwk)
    async with Issuer(tmp_path) as second:
        assert (second.url, second.signer.jwk) == before


async def test_a_taken_port_gives_a_new_issuer(tmp_path: Path) -> None:
    """When the last port is taken, another one is used and remembered."""
    async with Issuer(tmp_path) as first, Issuer(tmp_path) as second:
        assert second.url != first.url
        assert Signer.load(tmp_path).issuer == second.url


async def test_another_process_signs_with_the_kept_key(tmp_path: Path) -> None:
    """What `extauthz token` signs is what the running issuer would sign."""
    async with Issuer(tmp_path) as issuer:
        loaded = Signer.load(tmp_path)
        assert (loaded.issuer, loaded.jwk) == (issuer.url, issuer.signer.jwk)


def test_signing_before_the_first_demo_is_explained(tmp_path: Path) -> None:
    """Without a key the error says that the demo has to be started first."""
    with pytest.raises(DemoError, match="start `extauthz demo`"):
        Signer.load(tmp_path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A key file that the demo cannot have written is named in the error."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    with pytest.raises(DemoError, match=r"key\.pem"):
        Signer.load(tmp_path)


def test_state_folder_follows_the_xdg_convention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state lies in XDG_STATE_HOME, or in ~/.local/state where that is unset."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "extauthz" / "demo"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / ".local" / "state" / "extauthz" / "demo"
