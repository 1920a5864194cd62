"""What the stub's tenants own: one store of objects with ids, each in a namespace."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.kubeflow.wire import Wrong

CREATED = "2026-01-02T03:04:05Z"


@dataclass(slots=True)
class Object:
    """One object of KFP. `parent` is a run's or job's experiment, or a version's pipeline."""

    kind: str
    id: str
    namespace: str
    name: str
    parent: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


class Store:
    """All objects of all tenants. Kinds: experiment, run, job, pipeline, pipeline_version.

    `pipelines_in` is where KFP keeps pipelines: its `database`, or `kubernetes`.
    """

    def __init__(self) -> None:
        self.pipelines_in = "database"
        self._objects: dict[tuple[str, str], Object] = {}

    def add(self, kind: str, namespace: str, name: str, parent: str = "", **fields: Any) -> Object:
        """Create an object under an id of its own."""
        made = Object(kind, str(uuid.uuid4()), namespace, name, parent, fields)
        self._objects[kind, made.id] = made
        return made

    def get(self, kind: str, id: str) -> Object:  # noqa: A002 -- KFP's own word
        """Return an object. Raises Wrong with 404."""
        try:
            return self._objects[kind, id]
        except KeyError:
            raise Wrong(404, f"{kind} {id} not found") from None

    def drop(self, kind: str, id: str) -> None:  # noqa: A002 -- KFP's own word
        """Delete an object. Raises Wrong with 404."""
        del self._objects[kind, self.get(kind, id).id]

    def scoped(self, kind: str, namespace: str) -> Iterator[Object]:
        """List what a namespace has; none has the shared pipelines in a database, and otherwise what all have."""
        shared = kind == "pipeline" and self.pipelines_in == "database"
        return self.all(kind, namespace=namespace if namespace or shared else None)

    def all(self, kind: str, *, namespace: str | None = None, parent: str | None = None) -> Iterator[Object]:
        """List objects in order of their creation."""
        for each in self._objects.values():
            if each.kind == kind and namespace in (None, each.namespace) and parent in (None, each.parent):
                yield each
