"""The caller's mTLS principal in HTTP checks, which carry no other sign of it than `x-forwarded-client-cert`.

Envoy itself writes the last element, once it has verified the caller's certificate, where it is
told APPEND_FORWARD or SANITIZE_SET as in Istio; without a certificate it takes the header off.
All other elements are the caller's own words, so only that one is read, and only in Envoy's spelling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

HEADER = "x-forwarded-client-cert"

_ELEMENT = re.compile(
    r'By=[^,;"]*;Hash=[0-9a-f]{64}(?:;Subject="(?:[^"\\]|\\.)*")?;URI=([^,;"\s]+)(?:;DNS=[^,;"\s]+)*', re.ASCII
)


def principal(headers: Mapping[str, str]) -> str:
    """Return the principal that Envoy wrote last; empty where there is none, or more than one."""
    value = headers.get(HEADER, "")
    element = _ELEMENT.fullmatch(value, value.rfind(",By=") + 1)
    return element[1] if element else ""
