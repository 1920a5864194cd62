"""Envoy's `http_service` mode, whoever serves it: a check over HTTP to `Request`, `Decision` to a reply.

Envoy repeats the original method, path, query and the headers that its configuration lists; the raw
target is judged as it came. Only status 200 allows.
"""

from __future__ import annotations

from collections.abc import Collection

from extauthz.decision import Decision
from extauthz.edge import body, xfcc
from extauthz.edge.asked import Asked
from extauthz.edge.reply import Refusals, Reply
from extauthz.errors import Refused
from extauthz.request import Request, read

REMOVE = "x-envoy-auth-headers-to-remove"


class Checks:
    """Reads checks."""

    def __init__(self, prefix: str, max_body_bytes: int, *, peers_from: Collection[str] = ()) -> None:
        self._peers_from = peers_from
        self._prefix = prefix
        self._start = f"{prefix}/"
        self._max_body_bytes = max_body_bytes

    def read(self, asked: Asked) -> Request:
        """Return the request that is asked about. Raises Refused."""
        if not asked.target.startswith(self._start):
            raise Refused("path_prefix_missing", "The check did not come from the configured provider.", status=403)
        headers = asked.headers
        return read(
            method=asked.method,
            target=asked.target[len(self._prefix) :],
            headers=headers,
            host=headers.get("host", ""),
            peer=xfcc.principal(headers, self._peers_from) if self._peers_from else "",
            # content-length is the length of what Envoy sent us, so it proves nothing here.
            body=body.shown(asked.content, headers, limit=self._max_body_bytes, length=None),
        )


def reply_to(decision: Decision, request: Request | None, refusals: Refusals) -> Reply:
    """Return what Envoy is told; `request` is None where none could be read."""
    if not decision.allowed:
        return refusals.reply(decision, request)
    cookies = (("set-cookie", cookie) for cookie in decision.cookies)
    removed = ((REMOVE, ",".join(decision.remove)),) if decision.remove else ()
    return Reply(200, (*decision.headers, *cookies, *removed), b"")
