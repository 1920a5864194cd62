"""Where the API server is and how we prove to it who we are.

`kubernetes.aio` reads kubeconfigs, exec plugins included; a pod's ServiceAccount is two files.
This module adds what a long-running service needs and the package leaves open. Token,
certificate authority and client certificate are read again every minute, and soon after a
401, without a request ever waiting for it; the last good ones serve while that fails.
Nothing here can switch certificate verification off: a kubeconfig that asks for it is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from yaml import YAMLError
from yarl import URL

from extauthz.errors import ConfigurationError, Problem

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REFRESH_SECONDS = 60.0
RETRY_SECONDS = 5.0
LOAD_SECONDS = 30.0
_EXPIRY_MARGIN = timedelta(minutes=2)

Load = Callable[[bool], Awaitable[Any]]
_log = logging.getLogger(__name__)


class Credentials:
    """The address of an API server, the TLS context and the `Authorization` header for it.

    `load(force)` returns a `kubernetes.aio` Configuration; `force` forbids an answer from memory.
    """

    def __init__(self, load: Load, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._files = b""
        self._stale_at = 0.0
        self._rejected = False
        self._tried_at = 0.0
        self._refreshing: asyncio.Task[None] | None = None
        self.url = ""
        self.authorization = ""
        self.context: ssl.SSLContext | bool = True
        self.proxy: str | None = None
        self.server_hostname: str | None = None

    async def refresh(self, *, force: bool = False) -> None:
        """Read everything anew. Raises ConfigurationError and then keeps what was known before."""
        self._tried_at = self._clock()
        self._rejected = False
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                self._use(await self._load(force))
        except TimeoutError:
            raise ConfigurationError(Problem(f"credentials not loaded within {LOAD_SECONDS:.0f} s")) from None
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(Problem(f"credentials cannot be read: {error}")) from error
        self._stale_at = self._clock() + REFRESH_SECONDS

    def keep_fresh(self) -> None:
        """Start a refresh in the background where one is due. Costs two comparisons where none is."""
        now = self._clock()
        if (now < self._stale_at and not self._rejected) or now < self._tried_at + RETRY_SECONDS:
            return
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh_quietly(self._rejected))

    def rejected(self) -> None:
        """Note that the API server answered 401: what is held in memory may be outdated."""
        self._rejected = True

    async def refreshed(self) -> None:
        """Wait for a refresh that is under way, whatever comes of it."""
        if self._refreshing:
            await asyncio.wait([self._refreshing])

    async def close(self) -> None:
        """Stop a refresh that is under way."""
        if task := self._refreshing:
            task.cancel()
            await asyncio.wait([task])

    async def _refresh_quietly(self, force: bool) -> None:
        try:
            await self.refresh(force=force)
        except ConfigurationError as error:
            _log.warning("API server credentials not refreshed, the last good ones serve on: %s", error)
        finally:
            self._refreshing = None

    def _use(self, configuration: Any) -> None:
        files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
        url = _checked(configuration.host)
        if (contents := _fingerprint(files)) != self._files:
            self.context = _context(*files)
            self._files = contents
        self.url = url
        self.proxy = configuration.proxy
        self.server_hostname = configuration.tls_server_name
        self.authorization = _bearer(configuration.api_key.get("BearerToken", ""))


def find(
    kubeconfig: Path | None,
    context: str | None,
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Load:
    """Choose where credentials come from: the named kubeconfig, else the pod, else the user's own kubeconfig.

    A named context always means a kubeconfig.
    """
    if kubeconfig is None and context is None and environ.get("KUBERNETES_SERVICE_HOST"):
        return _Pod(environ, service_account)
    paths = str(kubeconfig) if kubeconfig else environ.get("KUBECONFIG") or "~/.kube/config"
    return _Kubeconfig(paths, context)


@dataclass(frozen=True, slots=True)
class _PodConfiguration:
    """What a Configuration says, for a pod: these few values are not worth a package that takes 15 MB."""

    host: str
    ssl_ca_cert: str
    api_key: Mapping[str, str]
    cert_file: None = None
    key_file: None = None
    proxy: None = None
    tls_server_name: None = None


class _Pod:
    """The ServiceAccount that is mounted into every pod."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._token, self._authority = folder / "token", folder / "ca.crt"
        self._environ = environ

    async def __call__(self, force: bool) -> Any:
        host, port = self._environ["KUBERNETES_SERVICE_HOST"], self._environ.get("KUBERNETES_SERVICE_PORT", "")
        if not port:
            raise ConfigurationError(Problem("in-cluster configuration: KUBERNETES_SERVICE_PORT is not set"))
        for file in (self._token, self._authority):
            if not _text(file).strip():
                raise ConfigurationError(Problem("in-cluster configuration: the file is empty", file))
        address = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        return _PodConfiguration(address, str(self._authority), {"BearerToken": f"Bearer {_text(self._token)}"})


class _Kubeconfig:
    """One context of a kubeconfig; what an exec plugin answered is kept until it expires."""

    def __init__(self, paths: str, context: str | None) -> None:
        self._paths = paths
        self._context = context
        self._kept: tuple[Any, datetime | None] | None = None

    async def __call__(self, force: bool) -> Any:
        if self._kept and not force:
            configuration, expires = self._kept
            if expires is None or datetime.now(UTC) < expires - _EXPIRY_MARGIN:
                return configuration
        from kubernetes.aio.config import ConfigException

        try:
            return await self._read()
        except (ConfigException, YAMLError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            # The loader checks little, so a malformed file shows itself as any of these.
            raise self._refuse(f"kubeconfig cannot be used: {error}") from error

    async def _read(self) -> Any:
        from kubernetes.aio.client.configuration import Configuration
        from kubernetes.aio.config.kube_config import KubeConfigLoader, KubeConfigMerger

        merged = KubeConfigMerger(self._paths).config
        loader = KubeConfigLoader(merged, active_context=self._context)
        if loader.provider:
            raise self._refuse(f"auth-provider {loader.provider!r} is not supported", "use its exec plugin")
        configuration = Configuration()
        await loader.load_and_set(configuration)
        if not configuration.verify_ssl:
            raise self._refuse(
                "insecure-skip-tls-verify is set, so anyone could answer for the API server",
                "name the cluster's certificate-authority instead",
            )
        if loader._user is not None and "exec" in loader._user:
            # The loader only logs a failed plugin and goes on without credentials.
            if not (hasattr(loader, "token") or getattr(loader, "cert_file", None)):
                raise self._refuse("the exec plugin gave no credentials", "run its command by hand")
            self._kept = configuration, getattr(loader, "exec_plugin_expiry", None)
        return configuration

    def _refuse(self, message: str, hint: str = "") -> ConfigurationError:
        return ConfigurationError(Problem(message, Path(self._paths), hint=hint))


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        hint = "is the pod's ServiceAccount token mounted?"
        raise ConfigurationError(Problem(f"in-cluster configuration: {error.strerror}", file, hint=hint)) from error


def _checked(address: str) -> str:
    url = URL(address)
    if url.scheme == "https" or (url.scheme == "http" and _loopback(url.host or "")):
        return str(url).rstrip("/")
    raise ConfigurationError(Problem(f"API server address {address!r} is neither https nor on this machine"))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bearer(value: str) -> str:
    """Tidy what the loaders give: files end with a newline, and one loader writes `bearer` small."""
    scheme, _, token = value.strip().partition(" ")
    return f"{scheme.capitalize()} {token.strip()}" if token else ""


def _fingerprint(files: tuple[str | None, ...]) -> bytes:
    digest = hashlib.sha256()
    for file in files:
        content = Path(file).read_bytes() if file else b""
        digest.update(len(content).to_bytes(8) + content)
    return digest.digest()


def _context(authority: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context
