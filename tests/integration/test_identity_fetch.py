"""How keys are fetched: at whose address, through whom, how often, and with which token."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from extauthz.errors import CredentialError, Unavailable
from extauthz.identity import TokenAuthenticator
from extauthz.identity.web import _Sockets
from extauthz.settings.identity import Identity
from tests.apiserver import pki
from tests.issuer import Clock, Issuer, KeyServer, Pauses, asking, authenticated, bearer, ec_key
from tests.loadbalancer import LOAD_BALANCER, LoadBalancer
from tests.pem import pem
from tests.site import Site


class World:
    """An authenticator with one issuer, under the test's clocks."""

    def __init__(self, folder: Path, issuer: Issuer, keys: dict[str, Any], **changes: Any) -> None:
        configured = {"issuer": issuer.name, "audiences": [issuer.audience], "keys": keys, **changes}
        self.issuer = issuer
        self.monotonic = Clock(0)
        self.pauses = Pauses()
        self.first_pause = 0.0
        self.tokens = TokenAuthenticator(
            Identity.model_validate({"jwt": [configured]}),
            resolve=folder.joinpath,
            clock=Clock(),
            monotonic=self.monotonic,
            sleep=self.pauses,
        )

    async def outcome(self, headers: dict[str, str] | None = None) -> str:
        """Return the user whom a token names, or the reason of the refusal."""
        try:
            subject = await authenticated(self.tokens, asking(headers or bearer(self.issuer.token())))
        except (CredentialError, Unavailable) as refused:
            return refused.reason
        return subject.user if subject else "nobody"


@asynccontextmanager
async def started(folder: Path, issuer: Issuer, keys: dict[str, Any], **changes: Any) -> AsyncIterator[World]:
    world = World(folder, issuer, keys, **changes)
    await world.tokens.start()
    world.first_pause = await world.pauses.begun.get()
    try:
        yield world
    finally:
        await world.tokens.stop()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        site.pages["/jwks"] = Issuer().jwks()
        yield site


def moved(target: str, status: int = 302) -> web.Response:
    """Return a redirect."""
    return web.Response(status=status, headers={"location": target})


@pytest.mark.parametrize(
    ("control", "least", "most"),
    [
        ("", 80, 100),
        ("max-age=50", 40, 50),
        ("public, max-age=50, must-revalidate", 40, 50),
        ("PUBLIC,MAX-AGE=50", 40, 50),
        ("max-age=3600", 80, 100),
        ("max-age=0", 8, 10),
        ("no-store", 8, 10),
        ("no-cache, max-age=50", 8, 10),
        ("max-age=x", 80, 100),
        ("s-maxage=50", 80, 100),
        ("max-age=99999999999999999999", 80, 100),
        ("max-age=-1", 80, 100),
    ],
)
async def test_cache_control_decides_within_the_settings(
    site: Site, tmp_path: Path, control: str, least: float, most: float
) -> None:
    """Sooner than `refreshSeconds` where the answer says so, never sooner than `cooldownSeconds`."""
    site.pages["/jwks"] = web.Response(body=Issuer().jwks(), headers={"cache-control": control})
    keys = {"url": f"{site.url}/jwks", "refreshSeconds": 100, "cooldownSeconds": 10}
    async with started(tmp_path, Issuer(), keys) as world:
        assert least <= world.first_pause <= most


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_where_told(site: Site, tmp_path: Path, status: int) -> None:
    """Only then."""
    site.pages["/old"] = moved("/jwks", status)
    for redirects, outcome in ((True, "alice"), (False, "keys_unavailable")):
        keys = {"url": f"{site.url}/old", "redirects": redirects}
        async with started(tmp_path, Issuer(), keys) as world:
            assert await world.outcome() == outcome


@pytest.mark.parametrize(
    "target", ["/old", "", "ftp://127.0.0.1/jwks", "file:///etc/passwd", "http://[", "https://127.0.0.1:1/"]
)
async def test_no_redirect_leads_astray(site: Site, tmp_path: Path, target: str) -> None:
    """Circles end, and other schemes are not followed."""
    site.pages["/old"] = moved(target)
    async with started(tmp_path, Issuer(), {"url": f"{site.url}/old", "redirects": True}) as world:
        assert await world.outcome() == "keys_unavailable"
    assert len(site.requests) <= 8


async def test_a_redirect_may_lead_into_tls(site: Site, tmp_path: Path) -> None:
    """Whose certificate is good."""
    certificates = pki.create(tmp_path / "pki")
    async with KeyServer(Issuer(), certificates.server_context()) as server:
        site.pages["/old"] = moved(f"{server.url}/jwks")
        keys = {"url": f"{site.url}/old", "redirects": True, "caFile": str(certificates.ca)}
        async with started(tmp_path, Issuer(), keys) as world:
            assert await world.outcome() == "alice"
        assert server.fetches == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (moved("ftp://127.0.0.1/jwks"), "/old redirects to 'ftp'"),
        (moved("/old"), "/old answered 302"),
        (web.Response(status=302), "/old answered 302"),
    ],
    ids=["scheme", "circle", "nowhere"],
)
async def test_the_operator_is_told_where_a_redirect_led(
    site: Site, tmp_path: Path, answer: web.Response, problem: str
) -> None:
    """One without an address leads to where it came from."""
    site.pages["/old"] = answer
    async with started(tmp_path, Issuer(), {"url": f"{site.url}/old", "redirects": True}) as world:
        assert world.tokens.problems() == [f"issuer {Issuer().name} has no keys: {site.url}{problem}"]
    assert set(site.paths) == {"/old"}


async def test_a_redirect_from_https_to_http_is_not_followed(site: Site, tmp_path: Path) -> None:
    """Somebody on the way could answer with keys of their own."""
    certificates = pki.create(tmp_path / "pki")

    async def away(_: web.BaseRequest) -> web.StreamResponse:
        return moved(f"{site.url}/jwks")

    runner = web.ServerRunner(web.Server(away), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.server_context()).start()
    keys = {
        "url": f"https://127.0.0.1:{runner.addresses[0][1]}/jwks",
        "redirects": True,
        "caFile": str(certificates.ca),
    }
    async with started(tmp_path, Issuer(), keys) as world:
        assert await world.outcome() == "keys_unavailable"
    assert site.requests == []
    await runner.cleanup()


async def test_the_bearer_token_goes_to_the_configured_address_only(site: Site, tmp_path: Path) -> None:
    """It is read anew each time, and no redirect gets it."""
    file = tmp_path / "token"
    file.write_text("secret\n")
    site.pages["/old"] = moved("/jwks")
    keys = {"url": f"{site.url}/old", "redirects": True, "bearerTokenFile": "token"}
    async with started(tmp_path, Issuer(), keys) as world:
        assert await world.outcome() == "alice"
        file.write_text("renewed")
        world.pauses.end()
        await world.pauses.begun.get()
    sent = [request.headers.get("authorization") for request in site.requests]
    assert sent == ["Bearer secret", None, "Bearer renewed", None]


async def test_the_operator_is_told_which_file_holds_no_token(site: Site, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    keys = {"url": f"{site.url}/jwks", "bearerTokenFile": "token"}
    async with started(tmp_path, Issuer(), keys) as world:
        assert world.tokens.problems() == [f"issuer {Issuer().name} has no keys: {tmp_path / 'token'} holds no token"]


async def test_the_operator_is_told_which_address_is_private(site: Site, tmp_path: Path) -> None:
    keys = {"url": f"{site.url}/jwks", "privateAddresses": False}
    async with started(tmp_path, Issuer(), keys) as world:
        assert "keys are not fetched from the address 127.0.0.1" in world.tokens.problems()[0]


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "sécret", None])
async def test_a_file_without_a_token_sends_nothing(site: Site, tmp_path: Path, content: str | None) -> None:
    """The fetch fails instead."""
    if content is not None:
        (tmp_path / "token").write_text(content)
    keys = {"url": f"{site.url}/jwks", "bearerTokenFile": "token"}
    async with started(tmp_path, Issuer(), keys) as world:
        assert await world.outcome() == "keys_unavailable"
    assert site.requests == []


async def test_private_addresses_serve_only_where_allowed(site: Site, tmp_path: Path) -> None:
    """A public issuer cannot send us to the inside, not even by a name."""
    port = site.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        for private, outcome in ((True, "alice"), (False, "keys_unavailable")):
            keys = {"url": f"http://{host}:{port}/jwks", "privateAddresses": private}
            async with started(tmp_path, Issuer(), keys) as world:
                assert await world.outcome() == outcome
    assert len(site.requests) == 2


@pytest.mark.parametrize(
    ("address", "private", "serves"),
    [
        ("10.0.0.1", True, True),
        ("10.0.0.1", False, False),
        ("192.168.1.1", False, False),
        ("100.64.0.1", False, False),
        ("127.0.0.1", False, False),
        ("0.0.0.0", False, False),
        ("::1", False, False),
        ("fd00::1", False, False),
        ("::ffff:10.0.0.1", False, False),
        ("93.184.215.14", False, True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", False, True),
        ("169.254.169.254", True, False),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", True, False),
        ("fe80::1%eth0", True, False),
    ],
)
def test_which_addresses_serve(address: str, private: bool, serves: bool) -> None:
    """Link-local ones never do: there clouds keep credentials."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    asked = (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443))
    sockets = _Sockets(private=private)
    if serves:
        sockets(asked).close()
    else:
        with pytest.raises(OSError, match="keys are not fetched"):
            sockets(asked)


async def test_a_proxy_is_used_where_named(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the environment's is not."""
    site.pages["/keys"] = Issuer().jwks()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for keys in ({"url": f"{site.url}/keys"}, {"url": "http://idp.invalid/keys", "proxy": site.url}):
        async with started(tmp_path, Issuer(), keys) as world:
            assert await world.outcome() == "alice"
    assert [request.headers["host"] for request in site.requests] == [site.url.removeprefix("http://"), "idp.invalid"]


class Tunnels:
    """A proxy that only opens tunnels (CONNECT), over TLS where it has a certificate. It keeps what it was asked."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.asked: list[str] = []
        self.url = ""

    async def __aenter__(self) -> Tunnels:
        self._server = await asyncio.start_server(self._open, "127.0.0.1", 0, ssl=self._tls)
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0].decode())
        host, _, port = head.split()[1].decode().partition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_pass(reader, back), _pass(there, writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_proxy_tunnels_to_an_issuer_over_tls(tmp_path: Path, encrypted: bool) -> None:
    """It sees which server is asked and nothing else. The CA file vouches for both; without it nobody is believed."""
    server = pki.create(tmp_path / "pki")
    async with (
        KeyServer(Issuer(), server.server_context()) as keys,
        Tunnels(server.server_context() if encrypted else None) as proxy,
    ):
        source = {"url": f"{keys.url}/jwks", "proxy": proxy.url}
        async with started(tmp_path, keys.issuer, {**source, "caFile": str(server.ca)}) as world:
            assert await world.outcome() == "alice"
        assert proxy.asked == [f"CONNECT {keys.url.removeprefix('https://')} HTTP/1.1"]
        async with started(tmp_path, keys.issuer, source) as world:
            assert await world.outcome() == "keys_unavailable"


@pytest.fixture
def balancer(site: Site) -> LoadBalancer:
    return LoadBalancer(site, ec_key("0a1b2c3d-0000-4000-8000-000000000001"))


@asynccontextmanager
async def behind(site: Site, folder: Path, **keys: Any) -> AsyncIterator[World]:
    """Open a world that believes the load balancer."""
    changes: dict[str, Any] = {"header": "x-amzn-oidc-data", "algorithms": ["ES256"], "albSigner": LOAD_BALANCER}
    async with started(folder, Issuer(), {"pemUrl": site.url + "/{kid}", **keys}, **changes) as world:
        yield world


async def test_a_load_balancers_token_names_its_user(site: Site, balancer: LoadBalancer, tmp_path: Path) -> None:
    """Its key is fetched once it is named; padding is its habit."""
    async with behind(site, tmp_path) as world:
        assert world.tokens.problems() == []
        assert site.requests == []
        assert "=" in balancer.token()
        for _ in range(2):
            assert await world.outcome(balancer.headers()) == "alice"
        assert await world.outcome(balancer.headers(padded=False)) == "alice"
        assert site.paths == [f"/{balancer.key.id}"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"signer": LOAD_BALANCER + "2"}, "signer_mismatch"),
        ({"signer": [LOAD_BALANCER]}, "signer_mismatch"),
        ({"signer": None}, "signer_mismatch"),
        ({"client": "other"}, "audience_mismatch"),
        ({"client": ["kubeflow"]}, "audience_mismatch"),
        ({"alg": "RS256"}, "algorithm_not_allowed"),
        ({"kid": "../../jwks"}, "keys_unavailable"),
        ({"kid": "a/b"}, "keys_unavailable"),
        ({"kid": "a?b"}, "keys_unavailable"),
        ({"kid": ""}, "keys_unavailable"),
        ({"kid": "unknown"}, "keys_unavailable"),
    ],
)
async def test_another_load_balancers_token_is_refused(
    site: Site, balancer: LoadBalancer, tmp_path: Path, header: dict[str, Any], reason: str
) -> None:
    """Its region's keys serve everybody's load balancers; and no key id becomes another address."""
    async with behind(site, tmp_path) as world:
        assert await world.outcome(balancer.headers(**header)) == reason
    assert set(site.paths) <= {"/unknown"}


async def test_a_key_that_is_no_key_verifies_nothing(site: Site, balancer: LoadBalancer, tmp_path: Path) -> None:
    """Other kinds of keys and other pages are left out."""
    rsa = Issuer().keys[0]
    for page in (pem(rsa), b"<html>", b""):
        site.pages[f"/{balancer.key.id}"] = page
        async with behind(site, tmp_path) as world:
            assert await world.outcome(balancer.headers()) == "keys_unavailable"


async def test_a_new_key_is_fetched_beside_the_known_ones(site: Site, balancer: LoadBalancer, tmp_path: Path) -> None:
    """Once per cool-down; meanwhile a token with an unknown key is told to come back."""
    second, third = (ec_key(f"0a1b2c3d-0000-4000-8000-00000000000{number}") for number in (2, 3))
    balancer.publish(second)
    balancer.publish(third)
    async with behind(site, tmp_path, cooldownSeconds=10) as world:
        assert await world.outcome(balancer.headers()) == "alice"
        assert await world.outcome(balancer.headers(second)) == "keys_unavailable"
        world.monotonic.now += 11
        assert await world.outcome(balancer.headers(second)) == "alice"
        assert await world.outcome(balancer.headers()) == "alice"
        world.monotonic.now += 11
        del site.pages[f"/{second.id}"]
        assert await world.outcome(balancer.headers(third)) == "alice"
        assert await world.outcome(balancer.headers(second, padded=False)) == "keys_unavailable"


TAKEN_BACK = dict.fromkeys((403, 404, 410), ("alice", "keys_unavailable"))
FAILING = dict.fromkeys((204, 400, 411, 429, 500, 503), ("keys_unavailable", "alice"))


@pytest.mark.parametrize("status", [*TAKEN_BACK, *FAILING])
async def test_only_a_publisher_that_says_there_is_no_key_takes_it_back(
    site: Site, balancer: LoadBalancer, tmp_path: Path, status: int
) -> None:
    """Whichever way it says so. While it fails, the last good keys serve until it answers again."""
    other, first = (TAKEN_BACK | FAILING)[status]
    second = ec_key("0a1b2c3d-0000-4000-8000-000000000002")
    balancer.publish(second)
    async with behind(site, tmp_path) as world:
        assert await world.outcome(balancer.headers()) == "alice"
        site.pages[f"/{balancer.key.id}"] = web.Response(status=status)
        world.monotonic.now += 11
        assert await world.outcome(balancer.headers(second)) == other
        assert await world.outcome(balancer.headers()) == first


async def test_invented_key_ids_are_bounded(site: Site, balancer: LoadBalancer, tmp_path: Path) -> None:
    """One fetch asks for a few of them, and known keys stay."""
    async with behind(site, tmp_path) as world:
        assert await world.outcome(balancer.headers()) == "alice"
        world.monotonic.now += 11
        invented = [balancer.headers(kid=f"invented-{number}") for number in range(50)]
        await asyncio.gather(*(world.outcome(headers) for headers in invented))
        world.monotonic.now += 11
        await asyncio.gather(*(world.outcome(headers) for headers in invented))
        assert len(site.requests) <= 1 + 2 * 17
        assert await world.outcome(balancer.headers(padded=False)) == "alice"


async def test_padding_is_for_load_balancers_only(site: Site, tmp_path: Path) -> None:
    """Everybody else's padded token is malformed, though its signature is good."""
    key = ec_key("key-es")
    issuer = Issuer(keys=[key])
    site.pages["/jwks"] = issuer.jwks()
    token = LoadBalancer(site, key).token()
    async with started(tmp_path, issuer, {"url": f"{site.url}/jwks"}, algorithms=["ES256"]) as world:
        assert await world.outcome(bearer(issuer.token())) == "alice"
        assert await world.outcome(bearer(token)) == "token_malformed"
        header, payload, signature = issuer.token().split(".")
        assert await world.outcome(bearer(f"{header}.{payload}.{signature}=")) == "token_malformed"
