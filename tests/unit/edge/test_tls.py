"""TLS of every listener: what is shown, who is let in, and certificates that change while it serves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from extauthz.edge import tls as tls_module
from extauthz.edge.grpc import GrpcEdge
from extauthz.edge.http import HttpEdge
from extauthz.edge.listen import Bound
from extauthz.edge.native import grpc as native_grpc
from extauthz.edge.native import http as native_http
from extauthz.edge.tls import Certificates
from extauthz.errors import ConfigurationError
from extauthz.settings.listeners import GrpcListener, HttpListener, TlsSettings
from tests.authority import DAY, Authority
from tests.cases import gateway

ANY_PORT = "127.0.0.1:0"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
REQUEST = b"GET /public HTTP/1.1\r\nhost: a\r\n\r\n"
SERVERS = ("grpcio", "native grpc", "aiohttp", "native http")


@dataclass
class Desk:
    """A folder as a mounted Secret, and the certificates that are read from it."""

    folder: Path
    authority: Authority
    certificates: Certificates

    def renew(self, authority: Authority | None = None, **options: Any) -> int:
        """Write another certificate; return its serial number."""
        issued = (authority or self.authority).issue("extauthz", **options)
        issued.write(self.folder)
        return issued.serial


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mounted Secret: certificate and key."""
    folder = tmp_path / "tls"
    folder.mkdir()
    return folder


@pytest.fixture
def authority(folder: Path) -> Authority:
    """Who signed it."""
    authority = Authority()
    authority.issue("extauthz").write(folder)
    (folder / "ca.crt").write_bytes(authority.certificate)
    return authority


def load(folder: Path, *, clients: bool = False) -> Certificates:
    settings = TlsSettings(
        cert_file=folder / "tls.crt", key_file=folder / "tls.key", client_ca_file=folder / "ca.crt" if clients else None
    )
    return Certificates("grpc", settings, resolve=Path, protocols=("h2", "http/1.1"))


@asynccontextmanager
async def serving(server: str, certificates: Certificates) -> AsyncIterator[int]:
    """Serve with one of the servers; yield its port."""
    bound = Bound(ANY_PORT, certificates)
    edges: dict[str, Any] = {
        "grpcio": lambda: GrpcEdge(
            gateway(), GrpcListener(address=ANY_PORT), max_body_bytes=1024, certificates=certificates
        ),
        "native grpc": lambda: native_grpc.GrpcEdge(gateway(), GrpcListener(), max_body_bytes=1024, listening=bound),
        "aiohttp": lambda: HttpEdge(
            gateway(), HttpListener(address=ANY_PORT), max_body_bytes=1024, certificates=certificates
        ),
        "native http": lambda: native_http.HttpEdge(gateway(), HttpListener(), max_body_bytes=1024, listening=bound),
    }
    edge = edges[server]()
    await edge.start()
    try:
        yield edge.port
    finally:
        await edge.stop(0)


class Peer:
    """A connection that has been served."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: str) -> None:
        self._reader = reader
        self._writer = writer
        self._hello = PREFACE if "grpc" in server else REQUEST

    @classmethod
    async def open(cls, server: str, port: int, context: ssl.SSLContext) -> Peer:
        """Connect and be answered. Raises OSError where that is refused."""
        context.set_alpn_protocols(["h2"] if "grpc" in server else ["http/1.1"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        peer = cls(reader, writer, server)
        try:
            await peer.ask()
        except OSError:
            peer.close()
            raise
        return peer

    async def ask(self) -> None:
        """Say something and be answered."""
        self._writer.write(self._hello)
        if not await self._reader.read(9):
            raise ConnectionResetError

    @property
    def serial(self) -> int:
        """The serial number of the certificate that was shown."""
        shown = self._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).serial_number

    def close(self) -> None:
        """Go without a word."""
        self._writer.transport.abort()


async def shown(server: str, port: int, context: ssl.SSLContext) -> int:
    """Connect; return the serial number of the certificate that is shown."""
    peer = await Peer.open(server, port, context)
    peer.close()
    return peer.serial


@pytest.mark.parametrize("server", SERVERS)
async def test_new_connections_get_new_certificates(server: str, folder: Path, authority: Authority) -> None:
    """What is open stays open and is answered; whoever comes after the change is shown the new certificate."""
    certificates = load(folder)
    context = authority.client_context()
    async with serving(server, certificates) as port:
        peer = await Peer.open(server, port, context)
        renewed = authority.issue("extauthz")
        renewed.write(folder)
        await certificates.compare()
        assert await shown(server, port, context) == renewed.serial != peer.serial
        if "grpc" not in server:
            await peer.ask()
        peer.close()
    assert certificates.problem == ""


@pytest.mark.parametrize("server", SERVERS)
async def test_only_clients_of_the_authority_are_served(
    server: str, folder: Path, authority: Authority, tmp_path: Path
) -> None:
    """No certificate and one of another authority open nothing; nor does the old one once the authority is another."""
    certificates = load(folder, clients=True)
    ours, others = tmp_path / "ours", tmp_path / "others"
    stranger = Authority("stranger")
    for place, signer in ((ours, authority), (others, stranger)):
        place.mkdir()
        signer.issue("envoy").write(place)
    async with serving(server, certificates) as port:
        await shown(server, port, authority.client_context(ours))
        for context in (authority.client_context(), authority.client_context(others)):
            with pytest.raises(OSError, match=r".*"):
                await shown(server, port, context)
        (folder / "ca.crt").write_bytes(stranger.certificate)
        await certificates.compare()
        await shown(server, port, authority.client_context(others))
        with pytest.raises(OSError, match=r".*"):
            await shown(server, port, authority.client_context(ours))


def spoil(folder: Path, authority: Authority, how: str) -> None:
    """Write files that cannot be used."""
    if how == "of two pairs":
        (folder / "tls.crt").write_bytes(authority.issue("another").certificate)
    elif how == "expired":
        authority.issue("old", good_for=-DAY).write(folder)
    elif how == "no certificate":
        (folder / "tls.crt").write_text("nonsense")
    elif how == "gone":
        (folder / "tls.key").unlink()
    else:
        (folder / "ca.crt").write_text("nonsense")


@pytest.mark.parametrize("how", ["of two pairs", "expired", "no certificate", "gone", "no authority"])
async def test_bad_files_leave_the_last_good_in_place(how: str, folder: Path, authority: Authority) -> None:
    """They are named until good ones come; whoever starts with them does not start."""
    certificates = load(folder, clients=True)
    before = certificates._loaded
    spoil(folder, authority, how)
    await certificates.compare()
    assert certificates._loaded is before
    assert "grpc not reloaded, the last good ones serve" in certificates.problem
    assert str(folder) in certificates.problem
    with pytest.raises(ConfigurationError):
        load(folder, clients=True)
    authority.issue("extauthz").write(folder)
    (folder / "ca.crt").write_bytes(authority.certificate)
    await certificates.compare()
    assert (certificates.problem, certificates._loaded is before) == ("", False)


def test_a_key_with_a_passphrase_is_refused(folder: Path, authority: Authority) -> None:
    """Nobody is there to type one."""
    from cryptography.hazmat.primitives import serialization

    plain = serialization.load_pem_private_key((folder / "tls.key").read_bytes(), None)
    locked = plain.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"s3cret"),
    )
    (folder / "tls.key").write_bytes(locked)
    with pytest.raises(ConfigurationError, match="passphrase"):
        load(folder)


async def test_a_swapped_link_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kubelet swaps a link in one step; the files that are named stay links into what it points to."""
    monkeypatch.setattr(tls_module, "COMPARE_SECONDS", 0.01)
    authority = Authority()
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name in ("first", "second"):
        (mounted / f"..{name}").mkdir()
        authority.issue(name).write(mounted / f"..{name}")
    (mounted / "..data").symlink_to("..first")
    for file in ("tls.crt", "tls.key"):
        (mounted / file).symlink_to(f"..data/{file}")
    certificates = load(mounted)
    running = asyncio.create_task(certificates.run())
    (mounted / "..data_tmp").symlink_to("..second")
    (mounted / "..data_tmp").rename(mounted / "..data")
    second = (mounted / "..second" / "tls.crt").read_bytes()
    async with asyncio.timeout(60):
        while certificates._loaded.certificate != second:  # noqa: ASYNC110  # nothing tells that it was read
            await asyncio.sleep(0.01)
    running.cancel()


def test_what_openssl_takes_must_be_a_certificate_to_us(folder: Path, authority: Authority) -> None:
    """Anything that is no certificate is named with its file."""
    (folder / "ca.crt").write_text("nonsense")
    with pytest.raises(ConfigurationError, match=r"ca\.crt.*authorities of clients cannot be used"):
        load(folder, clients=True)
    with pytest.raises(ConfigurationError, match="not a certificate"):
        tls_module._not_after(folder / "ca.crt")
