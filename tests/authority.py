"""A throwaway certificate authority for peers on 127.0.0.1."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, in PEM form."""

    certificate: bytes
    key: bytes

    @property
    def serial(self) -> int:
        """What tells it from every other one."""
        return x509.load_pem_x509_certificate(self.certificate).serial_number

    def write(self, folder: Path) -> None:
        """Write both as kubelet names them in a mounted Secret."""
        (folder / "tls.crt").write_bytes(self.certificate)
        (folder / "tls.key").write_bytes(self.key)


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates of servers and clients."""

    name: str = "test authority"
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, in PEM form."""
        name = _name(self.name)
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        ) | dict.fromkeys(("encipher_only", "decipher_only"), False)
        return (
            _builder(name, name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True
            )
            .sign(self._key, hashes.SHA256())
            .public_bytes(PEM)
        )

    def issue(self, name: str, *, good_for: datetime.timedelta = DAY, principal: str = "") -> Issued:
        """Sign a certificate for a name and 127.0.0.1, or for a principal alone; `good_for` may be negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        if principal:
            names = [x509.UniformResourceIdentifier(principal)]
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(_name(name), _name(self.name), key.public_key(), good_for)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        plain = serialization.NoEncryption()
        secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain)
        return Issued(certificate.public_bytes(PEM), secret)

    def client_context(self, folder: Path | None = None) -> ssl.SSLContext:
        """Trust this authority; with `folder` show the certificate in it."""
        context = ssl.create_default_context(cadata=self.certificate.decode())
        if folder:
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, good_for: datetime.timedelta = DAY
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * DAY)
        .not_valid_after(now + good_for)
    )
