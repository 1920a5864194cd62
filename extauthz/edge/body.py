"""Whether Envoy showed us a whole body.

Envoy tells by `x-envoy-auth-partial-body`, and can be lied to: a first chunk of exactly the
buffer's size is announced as whole while the rest is still under way, so only a body below
the limit counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from extauthz.request import EMPTY_BODY, Body

PARTIAL = "x-envoy-auth-partial-body"
NOT_SHOWN = Body(None, "body_not_shown")
TRUNCATED = Body(None, "body_truncated")


def shown(content: bytes, headers: Mapping[str, str], *, limit: int, length: str | None) -> Body:
    """Judge a body. `limit` is Envoy's buffer in bytes; `length` the client's content-length, where known."""
    partial = headers.get(PARTIAL)
    if partial is None and not content:
        return EMPTY_BODY if length == "0" else NOT_SHOWN
    if partial != "false" or len(content) >= limit:
        return TRUNCATED
    if length is not None and length != str(len(content)):
        return TRUNCATED
    return Body(content)
