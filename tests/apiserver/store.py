"""The objects of the test API server: resourceVersions, history, and who waits for changes."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object and where it is found."""

    plural: str
    kind: str
    group: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"


RESOURCES = {
    resource.plural: resource
    for resource in (
        Resource("namespaces", "Namespace", "", namespaced=False),
        Resource("roles", "Role", RBAC, namespaced=True),
        Resource("rolebindings", "RoleBinding", RBAC, namespaced=True),
        Resource("clusterroles", "ClusterRole", RBAC, namespaced=False),
        Resource("clusterrolebindings", "ClusterRoleBinding", RBAC, namespaced=False),
    )
}


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as a watch tells it."""

    version: int
    type: str
    plural: str
    object: Object


class Gone(Exception):
    """The history no longer reaches back that far."""


class Store:
    """Objects by (plural, namespace, name); every write raises the version and joins the history."""

    def __init__(self) -> None:
        self.version = 1
        self.compacted = 0
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._history: list[Event] = []
        self._uids = itertools.count(1)
        self._pulse = asyncio.Event()

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        return self._objects.get((plural, namespace, name))

    def all(self, plural: str, namespace: str = "") -> list[Object]:
        """Return the objects of one kind in order of namespace and name."""
        keys = sorted(key for key in self._objects if key[0] == plural and namespace in ("", key[1]))
        return [self._objects[key] for key in keys]

    def put(self, plural: str, namespace: str, manifest: Object) -> Event:
        """Create or replace an object."""
        resource = RESOURCES[plural]
        name = manifest["metadata"]["name"]
        old = self.get(plural, namespace, name)
        uid = old["metadata"]["uid"] if old else f"uid-{next(self._uids)}"
        metadata = {**copy.deepcopy(manifest["metadata"]), "uid": uid, "resourceVersion": str(self.version + 1)}
        if namespace:
            metadata["namespace"] = namespace
        new = {
            **copy.deepcopy(manifest),
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
        }
        self._objects[plural, namespace, name] = new
        return self._record("MODIFIED" if old else "ADDED", plural, new)

    def remove(self, plural: str, namespace: str, name: str) -> Event | None:
        """Delete an object; None where there is none."""
        old = self._objects.pop((plural, namespace, name), None)
        if old is None:
            return None
        gone = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version + 1)}}
        return self._record("DELETED", plural, gone)

    def bookmark(self, *, annotations: dict[str, str] | None = None, plural: str = "") -> Event:
        """Return a bookmark of the present version."""
        metadata: Object = {"resourceVersion": str(self.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        resource = RESOURCES.get(plural)
        kind = {"kind": resource.kind, "apiVersion": resource.api_version} if resource else {}
        return Event(self.version, "BOOKMARK", plural, {**kind, "metadata": metadata})

    def compact(self) -> None:
        """Declare the history forgotten: new watches from before the present version get 410."""
        self.compacted = self.version

    async def changes(self, plural: str, since: int) -> AsyncIterator[Event]:
        """Yield all changes after a version, for ever. Raises Gone where they are compacted away."""
        if since < self.compacted:
            raise Gone
        position = since
        while True:
            pulse = self._pulse
            for event in [event for event in self._history if event.version > position]:
                position = event.version
                if event.plural == plural:
                    yield event
            await pulse.wait()

    def _record(self, kind: str, plural: str, changed: Object) -> Event:
        self.version += 1
        event = Event(self.version, kind, plural, changed)
        self._history.append(event)
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()
        return event
