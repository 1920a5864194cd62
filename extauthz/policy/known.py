"""Small memories of pure answers, bounded by forgetting everything when they are full.

Real traffic asks for the same few targets again and again; a flood of others costs what it
would cost without the memory.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

MAX_KNOWN = 4096

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


def remember(known: dict[KeyT, ValueT], key: KeyT, value: ValueT) -> ValueT:
    """Keep a value and return it."""
    if len(known) >= MAX_KNOWN:
        known.clear()
    known[key] = value
    return value
