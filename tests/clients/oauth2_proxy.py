"""A real oauth2-proxy as the session provider: built by the Go that is there, and run against an OpenID provider."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Self

import pytest

from extauthz.demo import HOST
from tests.clients.children import stop

MISSING = "oauth2-proxy is missing: put it on PATH, or Go, by which `make clients` builds it"
COOKIE = "kf_login"
CLIENT = "kubeflow"
_TOOLS = Path(__file__).parents[2] / ".tools"
_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""systemd's way to hand over a socket that listens already."""


class OAuth2Proxy:
    """oauth2-proxy for one issuer, as an async context manager. Skips where it is not built.

    It listens on `port`, sets the cookie COOKIE, and hands out the ID token.
    """

    _process: Process

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self.port = 0

    @property
    def auth_url(self) -> str:
        """Where extauthz asks whose a session is."""
        return f"http://{HOST}:{self.port}/oauth2/auth"

    async def __aenter__(self) -> Self:
        binary = shutil.which("oauth2-proxy") or next(_TOOLS.glob("oauth2-proxy-*/oauth2-proxy"), None)
        if binary is None:
            pytest.skip(MISSING)
        with socket.create_server((HOST, 0)) as listener:  # whoever asks before it serves waits in the queue
            self.port = listener.getsockname()[1]
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _ACTIVATE, str(listener.fileno()), binary, *self._options()),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=DEVNULL,
                pass_fds=[listener.fileno()],
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop(self._process)

    def _options(self) -> list[str]:
        return [
            *("--http-address", "fd:3", "--upstream", "static://200"),
            *("--provider", "oidc", "--oidc-issuer-url", self._issuer, "--scope", "openid email"),
            *("--client-id", CLIENT, "--client-secret", "throwaway", "--insecure-oidc-allow-unverified-email"),
            *("--cookie-name", COOKIE, "--cookie-secret", "throwaway-secret", "--cookie-secure=false"),
            *("--email-domain", "*", "--set-authorization-header", "--skip-provider-button"),
        ]
