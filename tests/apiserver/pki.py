"""A throwaway certificate authority for servers on 127.0.0.1."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from tests.authority import Authority


@dataclass(frozen=True, slots=True)
class Pki:
    """An authority's certificate and a server certificate that it signed, as PEM files."""

    ca: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def create(folder: Path) -> Pki:
    """Make a new authority and a server key in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    server = authority.issue("apiserver")
    pki = Pki(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    pki.ca.write_bytes(authority.certificate)
    pki.certificate.write_bytes(server.certificate)
    pki.key.write_bytes(server.key)
    return pki
