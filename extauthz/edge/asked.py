"""A check as an edge received it: all that its request is read from, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Asked:
    """A raw request. Header names are in lower case, values of one name joined by commas; the target is as it came.

    `content` is the body as far as it was shown; `peer` the mTLS principal of the caller, or empty.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes = b""
    host: str = ""
    peer: str = ""


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return header lines as `Asked` has them; Envoy joins those of one name alike."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        found[key] = f"{found[key]},{value}" if key in found else value
    return found
