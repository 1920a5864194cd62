"""The namespace of a TensorBoard of the pipelines UI: its proxy path holds a signed token that names it.

A token is the base64url form of a JSON object, a dot, and a signature over the former. Only
the UI server can check the signature, and does, so what is read here from a forged token
lets nobody in: it decides who may come as far as that check.
"""

from __future__ import annotations

import base64
import binascii
import json
import re

_TOKEN = re.compile(r"([A-Za-z0-9_-]{1,2048})\.[A-Za-z0-9_-]+", re.ASCII)


def namespace_of_token(token: str) -> str | None:
    """Return the namespace that a token names, or None where it does not tell in one way only."""
    told = _TOKEN.fullmatch(token)
    if told is None:
        return None
    try:
        text = base64.b64decode(told[1] + "=" * (-len(told[1]) % 4), altchars=b"-_", validate=True)
        payload = json.loads(text.decode(), object_pairs_hook=_unique)
    except (binascii.Error, ValueError, RecursionError):
        return None
    namespace = payload.get("namespace") if isinstance(payload, dict) else None
    return namespace if isinstance(namespace, str) and namespace else None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found
