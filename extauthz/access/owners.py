"""Whose a namespace is: the annotation `owner` that Kubeflow's profile controller writes on it.

It says whom to ask and decides nothing: rights are RoleBindings alone. Whoever may change the
Namespace chose it, so what is no short line of text is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANNOTATION = "owner"
MAX_CHARACTERS = 256


class Owners:
    """The owners of all namespaces, by the objects that the watch or manifests tell."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def apply(self, data: Mapping[str, Any]) -> None:
        """Take a Namespace that is new or has changed. Malformed ones raise KeyError or AttributeError."""
        metadata = data["metadata"]
        name, owner = metadata["name"], (metadata.get("annotations") or {}).get(ANNOTATION)
        self._owners.pop(name, None)
        if isinstance(owner, str) and 0 < len(owner) <= MAX_CHARACTERS and owner.isprintable():
            self._owners[name] = owner

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Forget a Namespace."""
        self._owners.pop(name, None)

    def of(self, namespace: str) -> str:
        """Return the owner of a namespace, empty where none is known."""
        return self._owners.get(namespace, "")
