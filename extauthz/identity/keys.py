"""The public keys of one issuer, as its JSON Web Key Set (RFC 7517) gives them.

A key is used only for algorithms that its type, its curve, its own `alg` and the settings
all admit, so a token cannot choose how its key is read. Keys that cannot be used (secret
or private ones, weak ones, those for encryption, unknown kinds) are left out and do not
spoil the others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from extauthz.errors import ExtauthzError
from extauthz.identity.strictjson import parse_object

MAX_KEYS = 256
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_ALGORITHMS = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_SECRET_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


class KeySourceError(ExtauthzError):
    """A key set could not be fetched, or nothing in it can be used."""


@dataclass(frozen=True, slots=True)
class Key:
    """One public key, and the signature algorithms it may verify."""

    id: str | None
    algorithms: frozenset[str]
    public: PublicKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one issuer."""

    keys: tuple[Key, ...]

    def find(self, *, algorithm: str, key_id: str | None) -> Key | None:
        """Return the only key that fits; None where no key or more than one does.

        A token without a key id is verified only where the set leaves no choice.
        """
        fitting = [key for key in self.keys if algorithm in key.algorithms and key_id in (None, key.id)]
        return fitting[0] if len(fitting) == 1 else None


def parse_key_set(document: bytes, allowed: Collection[str]) -> KeySet:
    """Read a JWKS; only keys for one of the `allowed` algorithms are kept.

    Raises KeySourceError where no key remains or there are more than MAX_KEYS.
    """
    try:
        entries = parse_object(document).get("keys")
    except ValueError as error:
        raise KeySourceError(f"not a JSON Web Key Set: {error}") from None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise KeySourceError(f"not a JSON Web Key Set of at most {MAX_KEYS} keys")
    keys = tuple(key for entry in entries if (key := _key(entry, allowed)) is not None)
    if not keys:
        raise KeySourceError(f"none of {len(entries)} keys can be used")
    return KeySet(keys)


def _key(entry: Any, allowed: Collection[str]) -> Key | None:
    if not isinstance(entry, dict) or not _for_verifying(entry):
        return None
    algorithms = _algorithms(entry).intersection(allowed)
    public = _public(entry, min(algorithms)) if algorithms else None
    return Key(entry.get("kid"), algorithms, public) if public else None


def _for_verifying(entry: dict[str, Any]) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return (
        not _SECRET_MEMBERS.intersection(entry)
        and isinstance(entry.get("kid", ""), str)
        and entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _algorithms(entry: dict[str, Any]) -> frozenset[str]:
    kind, curve = entry.get("kty"), entry.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return frozenset()
    algorithms = _ALGORITHMS.get((kind, curve), ())
    return frozenset(name for name in algorithms if entry.get("alg", name) == name)


def _public(entry: dict[str, Any], algorithm: str) -> PublicKey | None:
    try:
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError):
        return None
    if isinstance(key, RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return None
    return key if isinstance(key, PublicKey) else None
