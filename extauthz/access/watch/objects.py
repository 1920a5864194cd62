"""The objects of one resource that are known, and what their changes do to answers.

Only names and scopes are remembered. The old scopes are needed because a binding that
loses a subject changes that subject's answers, which the new object no longer names.
"""

from __future__ import annotations

from typing import Any

from extauthz.access.generations import Generations
from extauthz.access.watch.resources import Manifest, Resource, Scopes, Sink

_Key = tuple[str, str]


class KnownObjects:
    """Applies what lists and watches tell. Malformed objects raise KeyError, TypeError or AttributeError."""

    def __init__(self, resource: Resource, generations: Generations, sink: Sink | None) -> None:
        self._resource = resource
        self._generations = generations
        self._sink = sink
        self._known: dict[_Key, Scopes] = {}
        self._listed: set[_Key] | None = None

    @property
    def listing(self) -> bool:
        """Whether a list is under way."""
        return self._listed is not None

    def begin_list(self) -> None:
        """Begin to learn all objects anew."""
        self._listed = set()

    def end_list(self) -> None:
        """Forget what the list did not name, and end all answers.

        All of them: what was granted and revoked again since the last event is in neither
        list, but an answer from that time may rest on it.
        """
        for key in self._known.keys() - (self._listed or set()):
            del self._known[key]
            self._tell_deleted(key)
        self._listed = None
        self._generations.raise_all()

    def apply(self, manifest: dict[str, Any]) -> None:
        """Take an object that was added, modified or listed."""
        key, new = _key(manifest), self._resource.scopes(manifest)
        old = self._known.get(key, ())
        self._known[key] = new
        if self._sink is not None:  # the items of a list come without their kind
            self._sink.apply({**manifest, "kind": self._resource.kind, "apiVersion": self._resource.api_version})
        if self._listed is None:
            self._raise(old, new)
        else:
            self._listed.add(key)

    def remove(self, manifest: dict[str, Any]) -> None:
        """Take an object that was deleted, as it last was."""
        key = _key(manifest)
        old = self._known.pop(key, ())
        self._tell_deleted(key)
        self._raise(old, self._resource.scopes(manifest))

    def _raise(self, old: Scopes, new: Scopes) -> None:
        if old is None or new is None:
            self._generations.raise_all()
        else:
            self._generations.raise_for(old + new)

    def _tell_deleted(self, key: _Key) -> None:
        if self._sink is not None:
            self._sink.delete(self._resource.kind, *key)


def _key(manifest: Manifest) -> _Key:
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
