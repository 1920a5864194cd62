"""One question to the Kubeflow Pipelines API over HTTP: with our own token, bounded in size, never redirected."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp

from extauthz.errors import ConfigurationError, Problem, Unavailable
from extauthz.lookup import answers
from extauthz.lookup.token import bearer
from extauthz.settings import KfpLookupSettings

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""A run's answer holds its workflow, which etcd bounds to 1.5 MB, up to three times."""
WARN_SECONDS = 60.0

# Nothing is inflated: a small answer cannot become a large one.
_HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "extauthz"}

_logger = logging.getLogger(__name__)

Resolve = Callable[[Path], Path]


class KfpApi:
    """The API. Between `start` and `stop` it can be asked.

    `resolve` turns the settings' relative paths into absolute ones; `clock` is monotonic,
    in seconds.
    """

    def __init__(self, settings: KfpLookupSettings, resolve: Resolve, clock: Callable[[], float]) -> None:
        """Raises ConfigurationError where `caFile` cannot be used. Tokens are read when they are needed."""
        self._settings = settings
        self._trust = _trust(resolve(settings.ca_file)) if settings.ca_file else True
        self._resolve = resolve
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._quiet_until = 0.0

    async def start(self) -> None:
        """Be ready to ask; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._trust, limit=self._settings.max_concurrent),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )

    async def stop(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session:
            await session.close()

    async def get(self, path: str) -> bytes | None:
        """Return the body of a 200, None for an object that is not there or not for us to see. Raises Unavailable."""
        if self._session is None:
            raise unavailable("is not asked any more")
        try:
            return await self._ask(self._session, path)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise unavailable("cannot be reached") from error

    async def _ask(self, session: aiohttp.ClientSession, path: str) -> bytes | None:
        headers = {"authorization": bearer(self._resolve(self._settings.token_file))}
        async with session.get(self._settings.url + path, headers=headers, allow_redirects=False) as response:
            if response.status in (403, 404):
                self._note(response.status)
                return None
            if response.status != 200:
                raise answers.unexpected(f"has the status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise answers.unexpected(f"is larger than {MAX_ANSWER_BYTES} bytes")
            return bytes(body)

    def _note(self, status: int) -> None:
        """Tell the operator what callers must not learn: that we lack the right to see objects."""
        if status == 403 and self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + WARN_SECONDS
            _logger.warning("the KFP API refuses lookups with 403: extauthz needs `get` in all namespaces")


def unavailable(what: str) -> Unavailable:
    """Return the error for an API that gave no answer; `what` completes a sentence."""
    return Unavailable("lookup_unavailable", f"The owner of an object could not be found out: the KFP API {what}.")


def _trust(file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(Problem("cannot be used as certificate authorities", file)) from error
