"""Our own ServiceAccount token, as kubelet projects it into a file and renews it."""

from __future__ import annotations

import re
from pathlib import Path

from extauthz.errors import Unavailable

MAX_TOKEN_BYTES = 16384

_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")


def bearer(file: Path) -> str:
    """Return the `Authorization` header for the token that the file holds now. Raises Unavailable.

    The file is read for every call: calls are rare, and a renewed token counts at once.
    """
    try:
        with file.open("rb") as stream:
            token = stream.read(MAX_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise _missing() from error
    if len(token) > MAX_TOKEN_BYTES or _TOKEN.fullmatch(token) is None:
        raise _missing()
    return f"Bearer {token.decode('ascii')}"


def _missing() -> Unavailable:
    # The file's name and content are the operator's matter; the caller learns neither.
    return Unavailable("lookup_token", "The owner of an object could not be found out: extauthz has no usable token.")
