"""A mesh whose every part can be broken: `extauthz serve` as a process, backends behind proxies, Envoy before it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import ClientError, ClientSession

from extauthz.demo.envoy import Envoy, EnvoyConfig
from extauthz.demo.issuer import AUDIENCE, Issuer, Signer
from extauthz.demo.mesh import shipped_policies
from extauthz.demo.upstream import Upstream
from tests.apiserver import Cluster
from tests.apiserver.cluster import write_kubeconfig
from tests.apiserver.pki import create
from tests.apiserver.tokens import EXTAUTHZ
from tests.chaos.proxy import Proxy
from tests.integration.cluster import BRISK, api_server
from tests.oauth2proxy import COOKIE, OAuth2Proxy

START_SECONDS = 60
KEPT = 200
"""How many tokens, sessions and owners are remembered: all are full soon, so memory that grows after that is a leak.

Reviews are few, and stay: who needs a new one while the API server is down is rightly not served.
"""


class ChaosMesh:
    """Everything running, as an async context manager; files lie in `folder`."""

    signer: Signer
    cluster: Cluster
    service: Process
    envoy: Envoy

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proxies: dict[str, Proxy] = {}
        self.sessions = OAuth2Proxy()
        self.policies = folder / "policies"
        self.audit = folder / "audit.jsonl"
        self._clock = folder / "clock"
        self.admin_url = ""
        self._upstream = Upstream()
        self._ports: dict[str, int] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            shutil.copytree(shipped_policies(), self.policies)
            self._clock.write_text("0")
            pki, stranger = create(self.folder / "pki"), create(self.folder / "stranger")
            self.signer = (await stack.enter_async_context(Issuer(self.folder / "issuer"))).signer
            await stack.enter_async_context(self._upstream)
            await stack.enter_async_context(self.sessions)
            _, self.cluster = await stack.enter_async_context(api_server(self.folder / "cluster"))
            backends = {
                "API server": self.cluster.url,
                "KFP API": f"http://127.0.0.1:{self._upstream.port}",
                "key server": self.signer.issuer,
                "oauth2-proxy": self.sessions.url.removesuffix("/oauth2/auth"),
            }
            for name, url in backends.items():
                proxy = Proxy(int(url.rpartition(":")[2]), pki, stranger)
                self.proxies[name] = await stack.enter_async_context(proxy)
            self._write_settings(pki.ca)
            stack.push_async_callback(self.stop_service)
            await self.start_service()
            stack.push_async_callback(self.stop_envoy)
            await self.start_envoy()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start_service(self) -> None:
        """Start `extauthz serve` and wait until it is ready; on the ports of the last time, if there was one."""
        environment = {**os.environ, "SSL_CERT_FILE": str(self.folder / "pki" / "ca.crt")}
        log = (self.folder / "service.log").open("ab")
        clocked = (sys.executable, "-m", "tests.chaos.clocked", str(self._clock))
        command = (*clocked, "serve", "--config", str(self.folder / "settings.yaml"))
        self.service = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE, env=environment)
        assert self.service.stderr
        line = b""
        while b"serving:" not in line:
            line = await asyncio.wait_for(self.service.stderr.readline(), START_SECONDS)
            assert line, "the service ended before it served; see service.log"
            log.write(line)
        found = re.findall(r"(grpc|http|admin) (\d+)", line.decode().partition("serving:")[2])
        self._ports = {edge: int(port) for edge, port in found}
        self.admin_url = f"http://127.0.0.1:{self._ports['admin']}"
        self._log = asyncio.create_task(_copy(self.service.stderr, log))
        self._write_addresses()
        await self._ready()

    async def stop_service(self, *, kill: bool = False) -> None:
        """End the service and wait until it is gone."""
        if self.service.returncode is None:
            self.service.kill() if kill else self.service.terminate()
        await self.service.wait()
        await self._log

    async def start_envoy(self) -> None:
        """Start Envoy, on ports of its own choice."""
        config = EnvoyConfig(
            upstream_port=self._upstream.port,
            authz_grpc_port=self._ports["grpc"],
            authz_http_port=self._ports["http"],
        )
        self.envoy = await Envoy(config, self.folder).__aenter__()

    async def stop_envoy(self) -> None:
        """End Envoy."""
        await self.envoy.__aexit__()

    def set_clock(self, seconds: int) -> None:
        """Let the service's clock be off by so much."""
        self._clock.write_text(str(seconds))
        self.service.send_signal(signal.SIGUSR1)

    @property
    def alive(self) -> bool:
        """Whether the service runs."""
        return self.service.returncode is None

    def resident_mb(self) -> float:
        """Return the service's resident memory in MB."""
        status = Path(f"/proc/{self.service.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024

    def descriptors(self) -> int:
        """Return how many files the service has open."""
        return sum(1 for _ in Path(f"/proc/{self.service.pid}/fd").iterdir())

    async def metrics(self, session: ClientSession) -> str:
        """Return the service's metrics, or nothing where it does not answer."""
        try:
            async with session.get(f"{self.admin_url}/metrics") as response:
                return await response.text()
        except (ClientError, OSError, TimeoutError):
            return ""

    async def _ready(self) -> None:
        async with asyncio.timeout(START_SECONDS), ClientSession() as session:
            while True:
                async with session.get(f"{self.admin_url}/readyz") as response:
                    if response.status == 200 and not (await response.json())["warnings"]:
                        return
                await asyncio.sleep(0.05)

    def _write_settings(self, authority: Path) -> None:
        kubeconfig = write_kubeconfig(
            self.folder / "kubeconfig",
            {"server": self.proxies["API server"].url, "certificate-authority": str(authority)},
            {"token": EXTAUTHZ},
        )
        (self.folder / "kfp-token").write_text("chaos")
        keys = {
            "url": f"{self.proxies['key server'].url}/jwks",
            "caFile": str(authority),
            "cooldownSeconds": 1,
            "refreshSeconds": 1,
        }
        issuer = {
            "issuer": self.signer.issuer,
            "audiences": [AUDIENCE],
            "keys": keys,
            "claims": {"user": "email", "groups": "groups"},
        }
        session = {"url": f"{self.proxies['oauth2-proxy'].url}/oauth2/auth", "cookie": COOKIE, "maxCached": KEPT}
        kfp = {
            "url": self.proxies["KFP API"].url,
            "caFile": str(authority),
            "tokenFile": "kfp-token",
            "maxEntries": KEPT,
        }
        cluster = {"kubeconfig": str(kubeconfig), "timeoutSeconds": 1, "watch": BRISK}
        self._settings: dict[str, Any] = {
            "apiVersion": "extauthz.dev/v1",
            "kind": "Settings",
            "listeners": {
                "grpc": {"address": "127.0.0.1:0"},
                "http": {"address": "127.0.0.1:0", "pathPrefix": "/check"},
                "admin": {"address": "127.0.0.1:0"},
            },
            "identity": {"jwt": [issuer], "session": session, "maxCachedTokens": KEPT},
            "access": {"kubernetes": cluster},
            "lookups": {"kfp": kfp},
            "policy": {"paths": ["policies"]},
            "audit": {"output": "file", "file": "audit.jsonl"},
        }
        self._save_settings()

    def _write_addresses(self) -> None:
        """Keep the ports for the next start."""
        for edge, port in self._ports.items():
            self._settings["listeners"][edge]["address"] = f"127.0.0.1:{port}"
        self._save_settings()

    def _save_settings(self) -> None:
        (self.folder / "settings.yaml").write_text(yaml.safe_dump(self._settings))


async def _copy(source: asyncio.StreamReader, log: Any) -> None:
    with log:
        while line := await source.readline():
            log.write(line)
