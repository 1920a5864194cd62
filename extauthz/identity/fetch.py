"""Where key sets come from: an address, OIDC discovery, or a file.

Every source is bounded in time and size. Redirects are not followed and the environment's
proxies are not used, so that only the configured place decides whose keys are trusted.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from extauthz.identity.keys import KeySourceError
from extauthz.identity.strictjson import parse_object
from extauthz.identity_settings import JwtIssuer, Keys

MAX_BYTES = 1024 * 1024

Fetch = Callable[[], Awaitable[bytes]]
Resolve = Callable[[Path], Path]

# Nothing is inflated: a small answer cannot become a large one.
_REQUEST_HEADERS = {"accept": "application/json", "accept-encoding": "identity"}


def key_source(issuer: JwtIssuer, resolve: Resolve) -> Fetch:
    """Return the function that reads an issuer's JWKS anew each time it is called.

    It raises KeySourceError, whatever goes wrong, within the settings' timeout.
    `resolve` turns the settings' relative paths into absolute ones.
    """

    async def fetch() -> bytes:
        try:
            async with asyncio.timeout(issuer.keys.timeout_seconds):
                return await _read(issuer, resolve)
        except TimeoutError:
            raise KeySourceError(f"no answer within {issuer.keys.timeout_seconds:g} s") from None
        except (OSError, aiohttp.ClientError, ValueError) as error:
            raise KeySourceError(str(error) or type(error).__name__) from error

    return fetch


async def _read(issuer: JwtIssuer, resolve: Resolve) -> bytes:
    keys = issuer.keys
    if keys.file is not None:
        return await asyncio.to_thread(_read_file, resolve(keys.file))
    async with _session(keys, resolve) as session:
        url = keys.url or await _discover(session, issuer.issuer)
        return await _get(session, url)


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return _bounded(file.read(MAX_BYTES + 1))


@asynccontextmanager
async def _session(keys: Keys, resolve: Resolve) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for one fetch: fetches are rare, and a changed CA file counts at once."""
    trust = ssl.create_default_context(cafile=resolve(keys.ca_file)) if keys.ca_file else True
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield session


async def _discover(session: aiohttp.ClientSession, issuer: str) -> str:
    """Return the JWKS address that the issuer publishes (OIDC Discovery §4)."""
    document = parse_object(await _get(session, issuer.removesuffix("/") + "/.well-known/openid-configuration"))
    if document.get("issuer") != issuer:
        raise KeySourceError("the discovery document is another issuer's")
    address = document.get("jwks_uri")
    schemes = ("https://",) if issuer.startswith("https://") else ("https://", "http://")
    if not isinstance(address, str) or not address.startswith(schemes):
        raise KeySourceError(f"the discovery document's jwks_uri must start with {' or '.join(schemes)}")
    return address


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url, headers=_REQUEST_HEADERS, allow_redirects=False) as response:
        if response.status != 200:
            raise KeySourceError(f"{url} answered {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += _bounded(chunk, len(body))
        return bytes(body)


def _bounded(data: bytes, before: int = 0) -> bytes:
    if before + len(data) > MAX_BYTES:
        raise KeySourceError(f"larger than {MAX_BYTES} bytes")
    return data
