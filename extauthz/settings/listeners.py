"""Where the service is reached, how it proves who it is, and how it ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from extauthz.document import Model
from extauthz.settings.identity import FilePath, Principal
from extauthz.settings.page import ConsoleSettings

Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")]


class TlsSettings(Model):
    """TLS of a listener, from 1.2 on.

    The files are read again when they change; while new ones cannot be used, the last good ones serve.
    """

    cert_file: FilePath
    """The listener's certificate in PEM form, with those between it and the authority."""
    key_file: FilePath
    """Its private key in PEM form, without a passphrase."""
    client_ca_file: FilePath | None = None
    """Authorities in PEM form: only clients with a certificate of theirs are served. Unset asks clients for none."""


class GrpcListener(Model):
    """The gRPC edge: `envoy.service.auth.v3.Authorization/Check`."""

    address: Address = "0.0.0.0:9000"
    """Host and port to listen on."""
    reflection: bool = False
    """Serve gRPC reflection. Only for a lab: it tells strangers what is served."""
    server: Literal["native", "grpcio"] = "native"
    """`native` is our own server on asyncio; `grpcio` is gRPC's, with ten times its CPU per check."""
    tls: TlsSettings | None = None
    """Unset: plain text, for a mesh that encrypts by itself."""


class HttpListener(Model):
    """The HTTP edge: Envoy's `http_service` mode."""

    address: Address = "0.0.0.0:9001"
    """Host and port to listen on."""
    path_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """What Envoy's `path_prefix` puts before the original path. Requests without it are refused."""
    server: Literal["native", "aiohttp"] = "native"
    """`native` is our own server on httptools, which speaks h2c, too; `aiohttp` takes several times its CPU."""
    peers_from: list[Principal] = []
    """The Envoys that ask, by their own mTLS principals: whom one of them names last in `x-forwarded-client-cert` is
    the caller. They need `APPEND_FORWARD` or `SANITIZE_SET`, as in Istio. A sidecar of extauthz's own writes there,
    too, so behind one nobody is known: use gRPC then."""
    tls: TlsSettings | None = None
    """Unset: plain text, for a mesh that encrypts by itself."""


class AdminListener(Model):
    """Health and readiness, for kubelet and operators; never for end users."""

    address: Address = "0.0.0.0:9002"
    """Host and port to listen on."""
    console: ConsoleSettings | None = None
    """Serve the console, with `{}` for its defaults; unset serves none."""
    tls: TlsSettings | None = None
    """Unset: plain text. With `clientCaFile` kubelet cannot probe it."""


class Listeners(Model):
    """Where the service is reached. Leave an edge out to switch it off."""

    grpc: GrpcListener | None = Field(default_factory=GrpcListener)
    http: HttpListener | None = Field(default_factory=HttpListener)
    admin: AdminListener = Field(default_factory=AdminListener)


class ShutdownSettings(Model):
    """How the service ends, so that no check is lost."""

    drain_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    """How long after SIGTERM checks are still answered while readiness says no: Envoys need that long to turn away."""
    grace_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    """How long checks under way may then take. Keep it above Envoy's own timeout."""
