"""Listening sockets, with an error that says which address and what to do."""

from __future__ import annotations

import socket

from extauthz.errors import ConfigurationError, Problem


def bind(address: str) -> socket.socket:
    """Return a listening socket on `host:port`. Raises ConfigurationError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        problem = Problem(f"cannot listen on {address}: {error}", hint="is the port taken?")
        raise ConfigurationError(problem) from error
