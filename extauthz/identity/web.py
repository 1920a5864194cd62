"""A bounded GET under the settings' rules: whom to trust, where to connect, how far to follow.

The environment's proxies are not used and nothing is inflated, so that only the configured
place decides whose keys are trusted, and a small answer cannot become a large one.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from extauthz.identity.keys import KeySourceError
from extauthz.settings.identity import Keys

MAX_BYTES = 1024 * 1024
MAX_REDIRECTS = 3

Resolve = Callable[[Path], Path]

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])", re.ASCII | re.IGNORECASE)
_UNCACHED = re.compile(r"(?:^|[\s,])no-(?:store|cache)(?:$|[\s,])", re.IGNORECASE)
_HEADERS = {"accept": "application/json, */*;q=0.5", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Page:
    """An answer; `max_age` is how many seconds `cache-control` calls it fresh, None where it says nothing."""

    body: bytes
    max_age: float | None = None


class Missing(KeySourceError):
    """The server has nothing at this address."""


class Reader:
    """Reads pages for one issuer. Raises KeySourceError, aiohttp's ClientError, OSError and ValueError."""

    def __init__(self, session: aiohttp.ClientSession, keys: Keys, token: str | None) -> None:
        self._session = session
        self._keys = keys
        self._token = token

    async def get(self, address: str) -> Page:
        """Return the page at an address, or the one it redirects to where that is allowed."""
        url, left = URL(address), MAX_REDIRECTS if self._keys.redirects else 0
        while True:
            async with self._session.get(
                url, headers=self._headers(address, url), allow_redirects=False, proxy=self._keys.proxy
            ) as response:
                if response.status == 200:
                    return Page(await _body(response), _max_age(response.headers.get("cache-control", "")))
                if response.status not in _REDIRECTS or not left:
                    kind = Missing if response.status in (403, 404, 410) else KeySourceError
                    raise kind(f"{url} answered {response.status}")
                url, left = _target(response), left - 1

    def _headers(self, address: str, url: URL) -> dict[str, str]:
        """Nobody but the configured address is sent the token."""
        if self._token is None or url != URL(address) or address != self._keys.url:
            return _HEADERS
        return {**_HEADERS, "authorization": f"Bearer {self._token}"}


@asynccontextmanager
async def reader(keys: Keys, resolve: Resolve) -> AsyncIterator[Reader]:
    """A reader for one fetch: fetches are rare, and a changed CA or token file counts at once."""
    trust = ssl.create_default_context(cafile=resolve(keys.ca_file)) if keys.ca_file else True
    token = await asyncio.to_thread(_token, resolve(keys.bearer_token_file)) if keys.bearer_token_file else None
    connector = aiohttp.TCPConnector(ssl=trust, socket_factory=_Sockets(private=keys.private_addresses))
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
    ) as session:
        yield Reader(session, keys, token)


class _Sockets:
    """Makes sockets for allowed addresses only. It sees what a name resolved to, so a name cannot lie."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    def __call__(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = address
        if not self._serves(str(place[0])):
            # With a number, as aiohttp tells the text of no other.
            raise OSError(errno.EACCES, f"keys are not fetched from the address {place[0]}")
        return socket.socket(family, kind, protocol)

    def _serves(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return not address.is_link_local and (self._private or address.is_global)


def bounded(data: bytes, before: int = 0) -> bytes:
    """Return `data` unless it makes the whole larger than MAX_BYTES. Raises KeySourceError."""
    if before + len(data) > MAX_BYTES:
        raise KeySourceError(f"larger than {MAX_BYTES} bytes")
    return data


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += bounded(chunk, len(body))
    return bytes(body)


def _token(path: Path) -> str:
    token = path.read_text().strip()
    if not token or not token.isascii() or not token.isprintable():
        raise KeySourceError(f"{path} holds no token")
    return token


def _target(response: aiohttp.ClientResponse) -> URL:
    target = response.url.join(URL(response.headers.get("location", "")))
    if target.scheme != "https" and not target.scheme == response.url.scheme == "http":
        raise KeySourceError(f"{response.url} redirects to {target.scheme!r}")
    return target


def _max_age(control: str) -> float | None:
    if _UNCACHED.search(control):
        return 0.0
    found = _MAX_AGE.search(control)
    return float(found[1]) if found else None
