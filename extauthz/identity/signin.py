"""The way to the login page and back: to a path of the same host, or to its root."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from extauthz.request import Request


def sign_in(path: str, request: Request) -> str:
    """Return the login page's path with the way back as `rd`."""
    return f"{path}?rd={quote(_way_back(request), safe='')}"


def _way_back(request: Request) -> str:
    """Return what was asked for, or `/` where two readers could take it for different places."""
    if request.faults or not request.path.startswith("/"):
        return "/"
    query = urlencode(request.parameters)
    return f"{request.path}?{query}" if query else request.path
