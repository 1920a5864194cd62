"""The v1beta1 form of KFP's objects: owners are `resource_references`, the first of a type wins."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.kubeflow.objects import CREATED, Object, Store
from tests.kubeflow.wire import Wrong

_LISTS = {"pipeline_version": "versions"}
_NUMBERS = {"EXPERIMENT": 1, "JOB": 2, "PIPELINE": 3, "PIPELINE_VERSION": 4, "NAMESPACE": 5}
_PARENTS = {"run": "EXPERIMENT", "job": "EXPERIMENT", "pipeline_version": "PIPELINE"}


def told(found: Object) -> dict[str, Any]:
    """Return an object as v1beta1 tells it; a run comes with its workflow."""
    references = [_reference("NAMESPACE", found.namespace)]
    if found.kind in _PARENTS:
        references.append(_reference(_PARENTS[found.kind], found.parent))
    content = {"id": found.id, "name": found.name, "created_at": CREATED, "resource_references": references}
    if found.kind != "run":
        return content
    return {"run": content, "pipeline_runtime": {"workflow_manifest": json.dumps({"metadata": {"name": found.name}})}}


def listing(kind: str, found: Iterable[Object]) -> dict[str, Any]:
    """Return a list as v1beta1 tells it."""
    items = [told(each) for each in found]
    items = [item["run"] for item in items] if kind == "run" else items
    return {_LISTS.get(kind, f"{kind}s"): items, "total_size": len(items)} if items else {}


def listed(store: Store, kind: str, parameters: Mapping[str, str]) -> Iterable[Object]:
    """Return what a list call lists."""
    if kind == "pipeline_version":
        return store.all(kind, parent=parameters.get("resource_key.id", ""))
    key = parameters.get("resource_reference_key.id", "")
    if _is(parameters.get("resource_reference_key.type"), "EXPERIMENT"):
        return store.all(kind, parent=key)
    return store.scoped(kind, key)


def created(store: Store, kind: str, message: Mapping[str, Any]) -> Object:
    """Create what a message asks for, in the namespace that KFP would put it."""
    references = message.get("resource_references", ())
    name = message.get("name", "")
    if kind not in _PARENTS:
        return store.add(kind, _first(references, "NAMESPACE"), name)
    pick = _last if kind == "pipeline_version" else _first
    parent = store.get(_PARENTS[kind].lower(), pick(references, _PARENTS[kind]))
    if _first(references, "NAMESPACE") not in ("", parent.namespace):
        raise Wrong(400, "the namespace is not that of the experiment")
    return store.add(kind, parent.namespace, name, parent.id)


def _reference(kind: str, id: str) -> dict[str, Any]:  # noqa: A002 -- KFP's own word
    return {"key": {"type": kind, "id": id}, "relationship": "OWNER"}


def _first(references: Sequence[Mapping[str, Any]], kind: str) -> str:
    return next((each["key"].get("id", "") for each in references if _is(each.get("key", {}).get("type"), kind)), "")


def _last(references: Sequence[Mapping[str, Any]], kind: str) -> str:
    return _first(references[::-1], kind)


def _is(value: object, kind: str) -> bool:
    return value in (kind, _NUMBERS[kind], str(_NUMBERS[kind]))
