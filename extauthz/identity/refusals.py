"""Credentials that were refused a moment ago, so that repeating one costs nobody another question.

Digests are kept, not credentials, so many of them at the most, and each for a short time
only: what was refused may be good soon. An outage is no refusal and never comes here.
"""

from __future__ import annotations

import hashlib

from cachetools import TTLCache

from extauthz.identity.store import Clock

MAX_REFUSALS = 10_000


class Refusals:
    """Maps credentials to the HTTP status they were refused with, for `seconds` of a monotonic `clock`."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._known: TTLCache[bytes, int] = TTLCache(MAX_REFUSALS, seconds, timer=clock)

    def add(self, credential: str, status: int) -> None:
        """Remember a refusal that was given just now."""
        self._known[_digest(credential)] = status

    def status_of(self, credential: str) -> int | None:
        """Return the status a credential was refused with; None where that is not known, or too long ago."""
        return self._known.get(_digest(credential))


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
