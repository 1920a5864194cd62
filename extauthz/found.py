"""What is known of an object that a request names only by its id."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """The namespace that an object belongs to, and the name that a review gives it.

    An empty `namespace` means that the object belongs to nobody and is shared by all. An
    empty `name` means that the object has none that is known.
    """

    namespace: str
    name: str = ""
