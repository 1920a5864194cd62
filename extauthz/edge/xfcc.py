"""The caller's mTLS principal in HTTP checks, which carry no other sign of it than `x-forwarded-client-cert`.

Envoy itself writes the last element, once it has verified the caller's certificate, where it is
told APPEND_FORWARD or SANITIZE_SET as in Istio; without a certificate it takes the header off.
All other elements are the caller's own words, so only that one is read, and only in Envoy's spelling.
It begins with the principal of the Envoy that wrote it. That must be one of those that ask us: a
sidecar of our own writes one too, and there the Envoy that asks stands in place of its caller.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

HEADER = "x-forwarded-client-cert"

_ELEMENT = re.compile(
    r'By=([^,;"]*);Hash=[0-9a-f]{64}(?:;Subject="(?:[^"\\]|\\.)*")?;URI=([^,;"\s]+)(?:;DNS=[^,;"\s]+)*', re.ASCII
)


def principal(headers: Mapping[str, str], writers: Collection[str]) -> str:
    """Return the principal that one of `writers` wrote last; empty where there is none, or more than one."""
    value = headers.get(HEADER, "")
    element = _ELEMENT.fullmatch(value, value.rfind(",By=") + 1)
    return element[2] if element and element[1] in writers else ""
