"""Where key sets come from: an address, OIDC discovery, single keys at addresses of their own, or a file.

Every source gives a JSON Web Key Set, within the settings' timeout, and knows no other error
than KeySourceError.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm

from extauthz.identity import web
from extauthz.identity.keys import KeySourceError
from extauthz.identity.strictjson import parse_object
from extauthz.identity.web import Page, Reader, Resolve
from extauthz.settings.identity import JwtIssuer

Fetch = Callable[[Collection[str]], Awaitable[Page]]
"""Reads a JWKS anew. The key ids are those wanted; only sources of single keys care for them."""

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


def key_source(issuer: JwtIssuer, resolve: Resolve) -> Fetch:
    """Return the function that reads an issuer's JWKS anew each time it is called.

    It raises KeySourceError, whatever goes wrong, within the settings' timeout.
    `resolve` turns the settings' relative paths into absolute ones.
    """

    async def fetch(key_ids: Collection[str]) -> Page:
        try:
            async with asyncio.timeout(issuer.keys.timeout_seconds):
                return await _read(issuer, resolve, key_ids)
        except TimeoutError:
            raise KeySourceError(f"no answer within {issuer.keys.timeout_seconds:g} s") from None
        except (OSError, aiohttp.ClientError, ValueError) as error:
            raise KeySourceError(str(error) or type(error).__name__) from error

    return fetch


async def _read(issuer: JwtIssuer, resolve: Resolve, key_ids: Collection[str]) -> Page:
    keys = issuer.keys
    if keys.file is not None:
        return await asyncio.to_thread(_read_file, resolve(keys.file))
    async with web.reader(keys, resolve) as reader:
        if keys.pem_url is not None:
            return await _single_keys(reader, keys.pem_url, key_ids)
        return await reader.get(keys.url or await _discover(reader, issuer.issuer))


def _read_file(path: Path) -> Page:
    with path.open("rb") as file:
        return Page(web.bounded(file.read(web.MAX_BYTES + 1)))


async def _discover(reader: Reader, issuer: str) -> str:
    """Return the JWKS address that the issuer publishes (OIDC Discovery §4)."""
    page = await reader.get(issuer.removesuffix("/") + "/.well-known/openid-configuration")
    document = parse_object(page.body)
    if document.get("issuer") != issuer:
        raise KeySourceError("the discovery document is another issuer's")
    address = document.get("jwks_uri")
    schemes = ("https://",) if issuer.startswith("https://") else ("https://", "http://")
    if not isinstance(address, str) or not address.startswith(schemes):
        raise KeySourceError(f"the discovery document's jwks_uri must start with {' or '.join(schemes)}")
    return address


async def _single_keys(reader: Reader, address: str, key_ids: Collection[str]) -> Page:
    """Return the keys that exist of those wanted. Only plain ids become part of an address."""
    wanted = [key_id for key_id in key_ids if _KEY_ID.fullmatch(key_id)]
    found = await asyncio.gather(*(_single_key(reader, address, key_id) for key_id in wanted))
    return Page(json.dumps({"keys": [key for key in found if key]}).encode())


async def _single_key(reader: Reader, address: str, key_id: str) -> dict[str, Any] | None:
    try:
        page = await reader.get(address.replace("{kid}", key_id))
        key = load_pem_public_key(page.body)
    except (web.Missing, UnsupportedAlgorithm):
        return None
    if not isinstance(key, EllipticCurvePublicKey):
        return None
    return {**ECAlgorithm.to_jwk(key, as_dict=True), "kid": key_id, "use": "sig"}
