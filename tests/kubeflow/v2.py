"""The v2beta1 form of KFP's objects: a run has no namespace here, only an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.kubeflow.objects import CREATED, Object, Store
from tests.kubeflow.wire import Wrong

_IDS = {"job": "recurring_run_id"}
_LISTS = {"job": "recurringRuns"}
_PARENTS = {"run": "experiment", "job": "experiment", "pipeline_version": "pipeline"}
_WITH_NAMESPACE = ("experiment", "job", "pipeline")
_OWN = frozenset(
    {"created_at", "description", "display_name", "experiment_id", "last_run_created_at", "name", "namespace"}
    | {"pipeline_id", "pipeline_version_id", "recurring_run_id", "run_id", "storage_state", "tags", "error"}
)
_FIELDS = {
    "run": {"pipeline_spec", "pipeline_version_reference", "runtime_config", "service_account", "state"},
    "job": {"pipeline_spec", "pipeline_version_reference", "runtime_config", "service_account", "mode"}
    | {"max_concurrency", "no_catchup", "trigger", "status"},
    "pipeline_version": {"code_source_url", "package_url", "pipeline_spec"},
}


def told(found: Object) -> dict[str, Any]:
    """Return an object as v2beta1 tells it."""
    content = {
        _id(found.kind): found.id,
        "display_name": found.name,
        "created_at": CREATED,
        "storage_state": "AVAILABLE",
        **found.fields,
    }
    if found.kind in ("pipeline", "pipeline_version"):
        del content["storage_state"]
        content["name"] = found.name
    if found.kind in _PARENTS:
        content[_id(_PARENTS[found.kind])] = found.parent
    if found.kind in _WITH_NAMESPACE:
        content["namespace"] = found.namespace
    return content


def listing(kind: str, found: Iterable[Object]) -> dict[str, Any]:
    """Return a list as v2beta1 tells it."""
    items = [told(each) for each in found]
    return {_LISTS.get(kind, f"{kind}s"): items, "total_size": len(items)} if items else {}


def listed(store: Store, kind: str, parameters: Mapping[str, str]) -> Iterable[Object]:
    """Return what a list call lists: an experiment overrides the namespace."""
    parent = parameters.get("pipeline_id" if kind == "pipeline_version" else "experiment_id") or None
    if parent:
        return store.all(kind, parent=parent)
    return store.scoped(kind, parameters.get("namespace", ""))


def created(store: Store, kind: str, message: Mapping[str, Any]) -> Object:
    """Create what a message asks for, in the namespace that KFP would put it."""
    if unknown := message.keys() - _OWN - _FIELDS.get(kind, set()):
        raise Wrong(400, f'proto: unknown field "{min(unknown)}"')
    name = message.get("display_name") or message.get("name") or ""
    fields = {key: value for key, value in message.items() if key in _FIELDS.get(kind, ()) or key == "description"}
    if kind not in _PARENTS:
        return store.add(kind, message.get("namespace", ""), name, **fields)
    parent = store.get(_PARENTS[kind], message.get(_id(_PARENTS[kind]), ""))
    if message.get("namespace", parent.namespace) not in ("", parent.namespace):
        raise Wrong(400, "the namespace is not that of the experiment")
    if kind == "run":
        fields.setdefault("state", "SUCCEEDED")
    return store.add(kind, parent.namespace, name, parent.id, **fields)


def _id(kind: str) -> str:
    return _IDS.get(kind, f"{kind}_id")
