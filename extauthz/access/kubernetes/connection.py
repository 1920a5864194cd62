"""One connection pool to the API server that moves raw JSON.

Credentials come from `kubernetes.aio`; the requests do not go through its generated models,
which cost three times the CPU (`bench/sar_client.py` measures it). Every request has a
deadline and a bounded answer, redirects are not followed, and each failure is one of the
`Unavailable` errors below, so callers decide on retries by type alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp.http import HttpProcessingError

from extauthz.access.kubernetes.credentials import Credentials, find
from extauthz.errors import Unavailable

MAX_ANSWER_BYTES = 1024 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
_KEEP_ALIVE_SECONDS = 60
_MAX_RETRY_AFTER_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said; `retry_after` is in seconds, 0 where it gave none; `date` is the time by its clock."""

    status: int
    body: bytes
    retry_after: int = 0
    date: str = ""


class Disconnected(Unavailable):
    """The connection could not be made or broke. Asking again may help."""


class TimedOut(Unavailable):
    """No complete answer in time."""


class Untrusted(Unavailable):
    """The API server could not prove that it is the one we were told to ask."""


class Rejected(Unavailable):
    """A stream was answered with something else than 200."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__("apiserver_rejected", f"the API server answered HTTP {answer.status}")


class Connection:
    """Requests to one API server. Close it, or use it in `async with`."""

    def __init__(self, credentials: Credentials, *, max_connections: int = 100) -> None:
        """Use credentials that have been read once; `max_connections` bounds requests and streams together."""
        self.credentials = credentials
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": "extauthz"},
        )

    @classmethod
    async def open(
        cls, *, kubeconfig: Path | None = None, context: str | None = None, max_connections: int = 100
    ) -> Connection:
        """Connect as the kubeconfig says, else as the pod's ServiceAccount, else as the user's own kubeconfig.

        Nothing is sent yet. Raises ConfigurationError where there are no usable credentials.
        """
        credentials = Credentials(find(kubeconfig, context))
        await credentials.refresh()
        return cls(credentials, max_connections=max_connections)

    async def close(self) -> None:
        """Close all connections; requests under way fail with Disconnected."""
        await self.credentials.close()
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout: float,  # noqa: ASYNC109 (aiohttp enforces it, and frees the connection)
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Send one request and read the whole answer within `timeout` seconds.

        Raises Disconnected, TimedOut, Untrusted, or Unavailable for an answer above `max_bytes`.
        """
        limit = aiohttp.ClientTimeout(total=timeout)
        with _translated():
            async with self._send(method, path, params, data=body, timeout=limit) as response:
                return await self._answer(response, max_bytes)

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str] | None = None, idle_timeout: float
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a watch and yield its lines; the iterator ends when the server ends it.

        `idle_timeout` is the longest silence in seconds, connecting and the first answer included. Raises
        Rejected unless the answer is 200; the iterator raises what `request` raises.
        """
        limit = aiohttp.ClientTimeout(total=None, connect=idle_timeout, sock_read=idle_timeout)
        with _translated():
            response = await self._send("GET", path, params, timeout=limit, read_bufsize=MAX_LINE_BYTES // 2)
        try:
            if response.status != 200:
                with _translated():
                    raise Rejected(await self._answer(response, MAX_ANSWER_BYTES))
            yield _lines(response)
        finally:
            response.close()

    def _send(self, method: str, path: str, params: Mapping[str, str] | None, **rest: Any) -> Any:
        """Return aiohttp's request context manager, which can be awaited too."""
        credentials = self.credentials
        credentials.keep_fresh()
        headers = {"Content-Type": "application/json"} if rest.get("data") is not None else {}
        if credentials.authorization:
            headers["Authorization"] = credentials.authorization
        return self._session.request(
            method,
            credentials.url + path,
            params=params,
            headers=headers,
            ssl=credentials.context,
            proxy=credentials.proxy,
            server_hostname=credentials.server_hostname,
            allow_redirects=False,
            **rest,
        )

    async def _answer(self, response: aiohttp.ClientResponse, max_bytes: int) -> Answer:
        if response.status == 401:
            self.credentials.rejected()
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > max_bytes:
                raise Unavailable("apiserver_bad_answer", f"the API server's answer exceeds {max_bytes} bytes")
        told = response.headers
        return Answer(response.status, bytes(body), _seconds(told.get("Retry-After", "")), told.get("Date", ""))


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    with _translated():
        async for line in response.content:
            if line.endswith(b"\n"):  # else the server went away in the middle of an event
                yield line


def _seconds(retry_after: str) -> int:
    """Read the form that Kubernetes sends, whole seconds; a date is no answer."""
    usable = retry_after.isascii() and retry_after.isdecimal() and len(retry_after) <= _MAX_RETRY_AFTER_DIGITS
    return int(retry_after) if usable else 0


@contextmanager
def _translated() -> Iterator[None]:
    """Turn aiohttp's errors into ours; their texts hold addresses and go to logs through `__cause__` only."""
    try:
        yield
    except TimeoutError as error:
        raise TimedOut("apiserver_timeout", "the API server did not answer in time") from error
    except aiohttp.ClientSSLError as error:
        raise Untrusted("apiserver_untrusted", "the API server's certificate is not trusted") from error
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
        raise Disconnected("apiserver_unreachable", "the connection to the API server failed") from error
    except (aiohttp.ClientError, HttpProcessingError, ValueError) as error:
        raise Unavailable("apiserver_bad_answer", "the API server's answer could not be read") from error
