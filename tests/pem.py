"""Public keys in PEM, as AWS load balancers publish them."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.issuer import SigningKey


def pem(key: SigningKey) -> bytes:
    """Return the public half of a key."""
    return key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
