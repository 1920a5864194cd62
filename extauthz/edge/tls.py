"""Certificates of a listener that can change while it serves.

Promises: new connections get the newest certificates that could be used, those that are
open keep theirs, and no request is lost. Files that cannot be used, or do not fit each
other, or have expired, change nothing; `problem` says what is wrong with them. A client is
judged by the authorities of the moment: no session is resumed from an earlier moment.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from extauthz.errors import ConfigurationError, Problem
from extauthz.settings.listeners import TlsSettings

COMPARE_SECONDS = 1.0
"""How often the files are compared with what was read; it needs nothing that could fail to notify."""

Fingerprint = tuple[tuple[int, int, int] | None, ...]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files hold, proven to fit."""

    context: ssl.SSLContext
    certificate: bytes
    key: bytes
    clients: bytes | None
    not_after: datetime


class Certificates:
    """The certificates of one listener, which clients may speak `protocols` to (ALPN)."""

    def __init__(
        self, name: str, tls: TlsSettings, *, resolve: Callable[[Path], Path], protocols: Sequence[str]
    ) -> None:
        """Read the files of the listener called `name`. Raises ConfigurationError."""
        self.name = name
        self.problem = ""
        self._files = _Files(
            resolve(tls.cert_file), resolve(tls.key_file), resolve(tls.client_ca_file) if tls.client_ca_file else None
        )
        self._protocols = list(protocols)
        self._seen = self._files.fingerprint()
        self._loaded = self._load()

    @property
    def not_after(self) -> datetime:
        """When the certificate that serves expires."""
        return self._loaded.not_after

    def server_context(self) -> ssl.SSLContext:
        """Return a context to listen with; each handshake takes the newest certificates."""
        context = self._files.context(self._protocols)

        def choose(connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
            connection.context = self._loaded.context

        context.sni_callback = choose  # called for every handshake, whether or not a name was sent
        return context

    def grpc_credentials(self) -> Any:
        """Return the same for gRPC's own server."""
        told: list[Loaded] = [self._loaded]

        def newer() -> Any:
            loaded = self._loaded
            if loaded is told[0]:
                return None
            told[0] = loaded
            return _grpc_configuration(loaded)

        import grpc  # 8 MB, which only its own server needs

        return grpc.dynamic_ssl_server_credentials(
            _grpc_configuration(self._loaded), newer, require_client_authentication=self._loaded.clients is not None
        )

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            await self.compare()

    async def compare(self) -> None:
        """Take what has changed, if it can be used."""
        seen = await asyncio.to_thread(self._files.fingerprint)
        if seen == self._seen:
            return
        try:
            loaded = await asyncio.to_thread(self._load)
        except ConfigurationError as error:
            self.problem = f"certificates of listener {self.name} not reloaded, the last good ones serve: {error}"
            _logger.error("%s", self.problem)
        else:
            self._loaded = loaded
            self.problem = ""
            _logger.info("certificates of listener %s reloaded, good until %s", self.name, loaded.not_after)
        self._seen = seen  # what was written while the files were read is another change

    def _load(self) -> Loaded:
        return self._files.load(self._protocols)


@dataclass(frozen=True, slots=True)
class _Files:
    certificate: Path
    key: Path
    clients: Path | None

    def fingerprint(self) -> Fingerprint:
        """Return what differs after any change of the files, also one by a symbolic link."""
        return tuple(_mark(file) for file in (self.certificate, self.key, self.clients) if file)

    def load(self, protocols: list[str]) -> Loaded:
        """Read everything. Raises ConfigurationError."""
        return Loaded(
            context=self.context(protocols),
            certificate=_read(self.certificate),
            key=_read(self.key),
            clients=_read(self.clients) if self.clients else None,
            not_after=_not_after(self.certificate),
        )

    def context(self, protocols: list[str]) -> ssl.SSLContext:
        """Return a context of these files. Raises ConfigurationError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        context.set_alpn_protocols(protocols)
        _read(self.key)
        _read(self.certificate)
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            message = f"certificate and key {self.key} cannot be used: {error}"
            hint = "both must be PEM, without a passphrase, and belong together"
            raise ConfigurationError(Problem(message, self.certificate, hint=hint)) from error
        if self.clients:
            self._ask_clients(context, self.clients)
        return context

    def _ask_clients(self, context: ssl.SSLContext, authorities: Path) -> None:
        _read(authorities)
        try:
            context.load_verify_locations(authorities)
        except OSError as error:
            message = f"authorities of clients cannot be used: {error}"
            raise ConfigurationError(Problem(message, authorities, hint="PEM certificates")) from error
        context.verify_mode = ssl.CERT_REQUIRED


def _grpc_configuration(loaded: Loaded) -> Any:
    import grpc

    pair = ((loaded.key, loaded.certificate),)
    return grpc.ssl_server_certificate_configuration(pair, root_certificates=loaded.clients)


def _not_after(file: Path) -> datetime:
    """Return when a certificate expires. Raises ConfigurationError where it has."""
    try:
        certificate = x509.load_pem_x509_certificate(_read(file))
    except ValueError as error:
        raise ConfigurationError(Problem(f"not a certificate: {error}", file)) from error
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        message = f"the certificate expired at {certificate.not_valid_after_utc}"
        raise ConfigurationError(Problem(message, file, hint="renew it"))
    return certificate.not_valid_after_utc


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", file)) from error


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")
