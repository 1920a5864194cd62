"""Restarts and new certificates under load, through a real Envoy: no request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, TCPConnector

from extauthz.demo.envoy import Envoy, EnvoyConfig
from extauthz.demo.upstream import Upstream
from tests.authority import Authority
from tests.integration.endpoints import WAIT_SECONDS, Edit, Endpoints
from tests.integration.load import OpenLoop
from tests.integration.test_serve import Serving, ended, serving, token, write_settings
from tests.issuer import Issuer, KeyServer

PATIENT_SECONDS = 20
"""How long Envoy waits for an answer: a stalled machine is no lost request."""
REQUESTS_PER_CONNECTION = 25


class Requests(OpenLoop):
    """A user asks for `/app`, by both edges in turn; every answer but 200 is a loss."""

    def __init__(self, client: ClientSession, envoy: Envoy) -> None:
        super().__init__()
        self.statuses: Counter[int] = Counter()
        self.losses: list[str] = []
        """What became of those that were not allowed."""
        self._open: set[int] = set()
        self._client = client
        self._urls = (envoy.grpc_url, envoy.http_url)
        self._headers = token()

    async def more(self, count: int = 300) -> None:
        """Wait for so many more answers."""
        before = self.statuses.total()
        await self.until(lambda: self.statuses.total() >= before + count)

    async def rest(self) -> None:
        """Wait for the answers to all that has been sent."""
        before = set(self._open)
        await self.until(lambda: before.isdisjoint(self._open))

    async def ask(self, number: int) -> None:
        self._open.add(number)
        async with self._client.get(f"{self._urls[number % 2]}/app", headers=self._headers) as response:
            self.statuses[response.status] += 1
            if response.status != 200:
                self.losses.append(f"{number % 2} {response.status} {await response.text()}")
        self._open.discard(number)


@pytest.fixture
async def keys() -> AsyncIterator[KeyServer]:
    """The issuer's key server."""
    async with KeyServer(Issuer()) as server:
        yield server


@contextlib.asynccontextmanager
async def loaded(endpoints: Endpoints, folder: Path, edit: Edit) -> AsyncIterator[tuple[Envoy, Requests]]:
    """An Envoy that asks the endpoints, and requests through it."""
    async with Upstream() as upstream:
        config = EnvoyConfig(
            upstream_port=upstream.port,
            authz_grpc_port=1,
            authz_http_port=1,
            path_prefix="",
            timeout_seconds=PATIENT_SECONDS,
        )
        async with Envoy(config, folder, endpoints.build(edit)) as envoy:
            await endpoints.known(envoy)
            connector = TCPConnector(limit=0)
            async with ClientSession(connector=connector) as client, Requests(client, envoy).running() as requests:
                await requests.more()
                yield envoy, requests


def as_it_is(cluster: dict[str, Any]) -> None:
    """Change nothing."""


async def settled(service: Serving, status: int) -> None:
    """Wait until `/readyz` answers so."""
    async with asyncio.timeout(WAIT_SECONDS), ClientSession() as client:
        while True:
            async with client.get(f"http://127.0.0.1:{service.ports['admin']}/readyz") as response:
                if response.status == status:
                    return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("servers", [("native", "native"), ("grpcio", "aiohttp")], ids="/".join)
async def test_a_rolling_restart_loses_no_request(tmp_path: Path, keys: KeyServer, servers: tuple[str, str]) -> None:
    """Each of two instances ends and comes again under 300 requests a second, as Kubernetes does it."""
    file = write_settings(tmp_path, f"{keys.url}/jwks")
    content = yaml.safe_load(file.read_text())
    content["shutdown"] = {"drainSeconds": 300, "graceSeconds": PATIENT_SECONDS}
    content["listeners"]["grpc"]["server"], content["listeners"]["http"]["server"] = servers
    file.write_text(yaml.safe_dump(content))
    endpoints = Endpoints(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        running = {name: await stack.enter_async_context(serving(file)) for name in ("a", "b")}
        for name, service in running.items():
            await settled(service, 200)
            endpoints.add(name, service.ports)
        # The load ends first: what is then stopped is not asked any more.
        async with loaded(endpoints, tmp_path, as_it_is) as (envoy, requests):
            for name, service in running.items():
                service.process.send_signal(signal.SIGTERM)
                await settled(service, 503)
                await requests.more(150)  # Envoy has heard nothing yet: the draining instance answers
                endpoints.remove(name)
                await endpoints.known(envoy)
                await requests.rest()
                # Everybody has turned away, so the rest of the drain is left out.
                service.process.send_signal(signal.SIGTERM)
                assert (await ended(service.process))[0] == 0
                again = await stack.enter_async_context(serving(file))
                await settled(again, 200)
                endpoints.add(name, again.ports)
                await endpoints.known(envoy)
                await requests.more(150)
    assert requests.losses == []
    assert requests.statuses.total() > 900


async def test_certificates_are_renewed_under_load(tmp_path: Path, keys: KeyServer) -> None:
    """Mutual TLS on both edges: a swapped Secret is shown to new connections, a bad one is not; nothing is lost."""
    authority, mounted = Authority(), tmp_path / "tls"
    mounted.mkdir()
    serials = [publish(mounted, "first", authority)]
    (tmp_path / "envoy").mkdir()
    authority.issue("envoy").write(tmp_path / "envoy")
    service_file = with_tls(write_settings(tmp_path, f"{keys.url}/jwks"), mounted)
    endpoints = Endpoints(tmp_path)
    async with serving(service_file) as service:
        await settled(service, 200)
        endpoints.add("a", service.ports)
        edit = over_tls(tmp_path / "envoy", mounted / "ca.crt")
        async with loaded(endpoints, tmp_path, edit) as (_, requests):
            for name in ("second", "third"):
                serials.append(publish(mounted, name, authority))
                for edge in ("grpc", "http"):
                    await shown(service.ports[edge], authority, tmp_path / "envoy", serials[-1])
                await requests.more(150)
            (mounted / "..third" / "tls.key").write_text("nonsense")
            await warned(service)
            await requests.more(150)
        assert requests.losses == []
        assert len(set(serials)) == 3


def publish(mounted: Path, name: str, authority: Authority) -> int:
    """Mount a Secret as kubelet does: a folder of its own, and one link that is swapped. Return the serial number."""
    folder = mounted / f"..{name}"
    folder.mkdir()
    issued = authority.issue("extauthz")
    issued.write(folder)
    (folder / "ca.crt").write_bytes(authority.certificate)
    (mounted / "..data_tmp").symlink_to(folder.name)
    (mounted / "..data_tmp").rename(mounted / "..data")
    for file in ("tls.crt", "tls.key", "ca.crt"):
        with contextlib.suppress(FileExistsError):
            (mounted / file).symlink_to(f"..data/{file}")
    return issued.serial


def with_tls(file: Path, mounted: Path) -> Path:
    """Ask for client certificates on both edges."""
    content = yaml.safe_load(file.read_text())
    for edge, server in (("grpc", "grpcio"), ("http", "native")):
        files = {"certFile": "tls.crt", "keyFile": "tls.key", "clientCaFile": "ca.crt"}
        content["listeners"][edge] |= {
            "server": server,
            "tls": {key: str(mounted / name) for key, name in files.items()},
        }
    file.write_text(yaml.safe_dump(content))
    return file


def over_tls(own: Path, authority: Path) -> Edit:
    """Let a cluster show a certificate, and open a new connection again and again."""

    def edit(cluster: dict[str, Any]) -> None:
        pair = {
            "certificateChain": {"filename": str(own / "tls.crt")},
            "privateKey": {"filename": str(own / "tls.key")},
        }
        trusted = {"trustedCa": {"filename": str(authority)}}
        alpn = ["h2"] if cluster["name"] == "authz-grpc" else ["http/1.1"]
        context = {"tlsCertificates": [pair], "validationContext": trusted, "alpnProtocols": alpn}
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
        cluster["transportSocket"] = {
            "name": "envoy.transport_sockets.tls",
            "typedConfig": {"@type": kind, "commonTlsContext": context},
        }
        protocol = "http2ProtocolOptions" if cluster["name"] == "authz-grpc" else "httpProtocolOptions"
        cluster["typedExtensionProtocolOptions"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "commonHttpProtocolOptions": {"maxRequestsPerConnection": REQUESTS_PER_CONNECTION},
                "explicitHttpConfig": {protocol: {}},
            }
        }

    return edit


async def shown(port: int, authority: Authority, own: Path, serial: int) -> None:
    """Wait until a new connection is shown the certificate with this serial number."""
    from cryptography import x509

    context = authority.client_context(own)
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            found = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
            writer.transport.abort()
            if found.serial_number == serial:
                return
            await asyncio.sleep(0.05)


async def warned(service: Serving) -> None:
    """Wait until `/readyz` warns of both edges' certificates, and is still ready."""
    async with asyncio.timeout(WAIT_SECONDS), ClientSession() as client:
        while True:
            async with client.get(f"http://127.0.0.1:{service.ports['admin']}/readyz") as response:
                told = await response.json()
            assert told["ready"]
            if all(
                any(f"listener {edge} not reloaded" in text for text in told["warnings"]) for edge in ("grpc", "http")
            ):
                return
            await asyncio.sleep(0.05)
