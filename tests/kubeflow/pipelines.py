"""KFP's API server in multi-user mode, on HTTP: what each RPC does to the store.

Its own access reviews are left out on purpose: whatever reaches it is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.kubeflow import v1, v2
from tests.kubeflow.gateway import Rpc, find
from tests.kubeflow.objects import Object, Store
from tests.kubeflow.wire import Answer, Call, Wrong, answer, text

_RPC = re.compile(
    r"(?P<verb>Get|List|Create|Delete|Update|Archive|Unarchive|Enable|Disable|Terminate|Retry)"
    r"(?P<object>Experiment|RecurringRun|Run|Job|PipelineVersion|Pipeline)s?(?:V1)?"
)
_KINDS = {
    "Experiment": "experiment",
    "Job": "job",
    "Pipeline": "pipeline",
    "PipelineVersion": "pipeline_version",
    "RecurringRun": "job",
    "Run": "run",
}
_CHANGES: Mapping[str, Mapping[str, str]] = {
    "Archive": {"storage_state": "ARCHIVED"},
    "Unarchive": {"storage_state": "AVAILABLE"},
    "Enable": {"mode": "ENABLE"},
    "Disable": {"mode": "DISABLE"},
    "Terminate": {"state": "CANCELING"},
    "Retry": {"state": "RUNNING"},
}
_CLUSTER = "system"  # reports belong to no tenant


class PipelinesApi:
    """Answers what `ml-pipeline:8888` would. `done` lists the RPCs that ran, with the namespace each touched."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.done: list[tuple[str, str]] = []

    def answer(self, call: Call) -> Answer:
        """Answer one call whose path is as the API server sees it, without `/pipeline`."""
        try:
            rpc = find(call)
            namespace, result = self._run(rpc)
        except Wrong as wrong:
            return _refusal(wrong)
        self.done.append((rpc.name.rpartition("/")[2], namespace))
        return result

    def _run(self, rpc: Rpc) -> tuple[str, Answer]:
        name = rpc.name.rpartition("/")[2]
        if special := _SPECIALS.get(name):
            return special(self.store, rpc)
        match = _RPC.fullmatch(name)
        if match is None:
            return _CLUSTER, answer({})
        version = v1 if rpc.name.startswith("/api.") else v2
        return _act(self.store, rpc, match["verb"], _KINDS[match["object"]], version)


def _act(store: Store, rpc: Rpc, verb: str, kind: str, version: Any) -> tuple[str, Answer]:
    """Run one of the regular RPCs. The last variable of a path is the object's id, whatever it is called."""
    if verb == "List":
        found = list(_filtered(version.listed(store, kind, {**rpc.parameters, **rpc.variables}), rpc))
        return _common(found), answer(version.listing(kind, found))
    if verb == "Create":
        made = version.created(store, kind, rpc.message)
        return made.namespace, answer(version.told(made))
    asked = store.get(kind, [*rpc.variables.values()][-1])
    if verb == "Delete":
        store.drop(kind, asked.id)
        return asked.namespace, answer({})
    if verb == "Update":
        asked.fields |= {key: value for key, value in rpc.message.items() if key not in rpc.variables}
    asked.fields |= _CHANGES.get(verb, {})
    return asked.namespace, answer(version.told(asked) if verb in ("Get", "Update") else {})


def _filtered(objects: Iterable[Object], rpc: Rpc) -> Iterable[Object]:
    """Keep what a filter's equalities keep; other operations are not known here."""
    predicates = json.loads(rpc.parameters.get("filter") or "{}").get("predicates", ())
    for each in objects:
        names = (each.name, each.fields.get("display_name"))
        if all((found.get("stringValue") or found.get("string_value")) in names for found in predicates):
            yield each


def _common(objects: Iterable[Object]) -> str:
    return ",".join(sorted({each.namespace for each in objects}))


def _upload(store: Store, rpc: Rpc) -> tuple[str, Answer]:
    name = rpc.parameters.get("name", "uploaded")
    made = store.add("pipeline", rpc.parameters.get("namespace", ""), name)
    store.add("pipeline_version", made.namespace, name, made.id)
    return made.namespace, answer(v2.told(made))


def _upload_version(store: Store, rpc: Rpc) -> tuple[str, Answer]:
    parent = store.get("pipeline", rpc.parameters.get("pipelineid", ""))
    made = store.add("pipeline_version", parent.namespace, rpc.parameters.get("name", "uploaded"), parent.id)
    return made.namespace, answer(v2.told(made))


def _pipeline_and_version(store: Store, rpc: Rpc) -> tuple[str, Answer]:
    made = v2.created(store, "pipeline", rpc.message.get("pipeline", {}))
    v2.created(store, "pipeline_version", {**rpc.message.get("pipeline_version", {}), "pipeline_id": made.id})
    return made.namespace, answer(v2.told(made))


def _by_name(store: Store, rpc: Rpc) -> tuple[str, Answer]:
    """Return the pipeline of a name: without a namespace that of any tenant."""
    namespace = {**rpc.parameters, **rpc.variables}.get("namespace") or None
    for found in store.all("pipeline", namespace=namespace):
        if found.name == rpc.variables["name"]:
            version = v1 if rpc.name.startswith("/api.") else v2
            return found.namespace, answer(version.told(found))
    raise Wrong(404, "pipeline not found")


def _of_run(store: Store, rpc: Rpc) -> tuple[str, Answer]:
    run = store.get("run", rpc.variables["run_id"])
    return run.namespace, text(f"{run.namespace}: log of {run.name}\n")


def _default_version(store: Store, rpc: Rpc) -> tuple[str, Answer]:
    return store.get("pipeline", rpc.variables["pipeline_id"]).namespace, answer({})


def _template(store: Store, rpc: Rpc) -> tuple[str, Answer]:
    kind = "pipeline_version" if "version_id" in rpc.variables else "pipeline"
    found = store.get(kind, next(iter(rpc.variables.values())))
    return found.namespace, answer({"template": found.name})


def _visualization(_: Store, rpc: Rpc) -> tuple[str, Answer]:
    """An empty namespace is the system's own."""
    namespace = rpc.variables["namespace"] or "kubeflow"
    return namespace, answer({"html": namespace})


def _healthz(store: Store, _: Rpc) -> tuple[str, Answer]:
    return "", answer({"multi_user": True, "pipeline_store": store.pipelines_in})


_SPECIALS: Mapping[str, Callable[[Store, Rpc], tuple[str, Answer]]] = {
    "CreatePipelineAndVersion": _pipeline_and_version,
    "CreateVisualizationV1": _visualization,
    "GetHealthz": _healthz,
    "GetPipelineByName": _by_name,
    "GetPipelineByNameV1": _by_name,
    "GetPipelineVersionTemplate": _template,
    "GetTemplate": _template,
    "ReportRunMetricsV1": _of_run,
    "UpdatePipelineDefaultVersionV1": _default_version,
    "log": _of_run,
    "read": _of_run,
    "upload": _upload,
    "upload_version": _upload_version,
}


def _refusal(wrong: Wrong) -> Answer:
    if wrong.status == 301:
        return Answer(301, location=str(wrong))
    return answer({"error": str(wrong), "code": wrong.status, "message": str(wrong), "details": []}, wrong.status)
