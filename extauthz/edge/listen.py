"""Where connections come from: an address of our own, with an error that says which and what to do; or elsewhere."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from extauthz.edge.tls import Certificates
from extauthz.errors import ConfigurationError, Problem

BACKLOG = 1024
HANDSHAKE_SECONDS = 5.0


class Listening(Protocol):
    """A source of connections."""

    port: int
    """The port that peers connect to; 0 where there is none of its own."""
    max_age: float | None
    """After how many seconds a connection is drained, so that the peer opens another; None lets it last."""

    async def start(self, serve: Callable[[], asyncio.BaseProtocol]) -> None:
        """Let `serve` make the protocol of each new connection. Raises ConfigurationError."""
        ...

    async def stop(self) -> None:
        """Take no further connections. Those that were taken go on."""
        ...


class Bound:
    """Listens on `host:port` itself, with TLS where there are certificates."""

    max_age: float | None = None

    def __init__(self, address: str, certificates: Certificates | None = None) -> None:
        self._address = address
        self._tls = certificates.server_context() if certificates else None
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, serve: Callable[[], asyncio.BaseProtocol]) -> None:
        """Listen. Raises ConfigurationError when the address is taken."""
        listening = bind(self._address)
        self.port = listening.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(
            serve,
            sock=listening,
            backlog=BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
        )

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()


def bind(address: str) -> socket.socket:
    """Return a listening socket on `host:port`. Raises ConfigurationError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        problem = Problem(f"cannot listen on {address}: {error}", hint="is the port taken?")
        raise ConfigurationError(problem) from error
