"""What the Kubeflow Pipelines API says of an object, read strictly.

An answer that is not as expected is an error and never a namespace: KFP reports objects it
cannot convert with status 200, an `error` and nothing else, and a pipeline without a
namespace means one that everybody may read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from extauthz.errors import Unavailable
from extauthz.found import Found

SHARED = ("", "-")
"""How KFP spells the namespace of a pipeline that belongs to nobody."""

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_NAMESPACE_TYPE = ("NAMESPACE", 5)
_EXPERIMENT_TYPE = ("EXPERIMENT", 1)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The namespace is that of another object, and so is the name where `name` is None."""

    kind: str
    id: str
    name: str | None = None


Told = Found | Elsewhere | None


def document(body: bytes) -> dict[str, Any]:
    """Return an answer's JSON object. Raises Unavailable."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise unexpected("is not JSON") from None
    if not isinstance(value, dict):
        raise unexpected("is not an object")
    return value


def experiment(answer: Mapping[str, Any], asked: str) -> Told:
    """Read `GET /apis/v2beta1/experiments/{id}`; None where it is about another id. Raises Unavailable."""
    if not _is(answer, "experiment_id", asked):
        return None
    return Found(_namespace(answer), _text(answer, "display_name"))


def artifact(answer: Mapping[str, Any], asked: str) -> Told:
    """Read `GET /apis/v2beta1/artifacts/{id}` of the KFP after 2.17; None where it is about another id."""
    if not _is(answer, "artifact_id", asked):
        return None
    return Found(_namespace(answer), _text(answer, "name"))


def recurring_run(answer: Mapping[str, Any], asked: str) -> Told:
    """Read `GET /apis/v2beta1/recurringruns/{id}`; None where it is about another id. Raises Unavailable."""
    if not _is(answer, "recurring_run_id", asked):
        return None
    name = _text(answer, "display_name")
    if not _text(answer, "namespace") and (parent := _text(answer, "experiment_id")):
        return Elsewhere("experiment", parent, name)
    return Found(_namespace(answer), name)


def pipeline(answer: Mapping[str, Any], asked: str) -> Told:
    """Read `GET /apis/v2beta1/pipelines/{id}`; None where it is about another id. Raises Unavailable."""
    if not _is(answer, "pipeline_id", asked):
        return None
    name = _text(answer, "name") or _text(answer, "display_name")
    if not name:
        raise unexpected("has no name")
    shared = _text(answer, "namespace") in SHARED
    return Found("" if shared else _namespace(answer), name)


def pipeline_version(answer: Mapping[str, Any], asked: str) -> Told:
    """Read `GET /apis/v2beta1/pipelines/-/versions/{id}`: its real parent decides. Raises Unavailable."""
    if not _is(answer, "pipeline_version_id", asked):
        return None
    parent = _text(answer, "pipeline_id")
    if not parent:
        raise unexpected("has no pipeline_id")
    return Elsewhere("pipeline", parent)


def run(answer: Mapping[str, Any], asked: str) -> Told:
    """Read `GET /apis/v1beta1/runs/{id}`, the one call that tells a run's namespace. Raises Unavailable."""
    found = _member(answer, "run", dict)
    if not _is(found, "id", asked):
        return None
    references = _member(found, "resource_references", list)
    name = _workflow_name(answer)
    namespaces = _referenced(references, _NAMESPACE_TYPE)
    if not namespaces and (parents := _referenced(references, _EXPERIMENT_TYPE)):
        return Elsewhere("experiment", _only(parents), name)
    return Found(_namespace({"namespace": _only(namespaces)}), name)


def unscoped_list(answer: Mapping[str, Any], asked: str) -> Told:
    """Read `GET /apis/v2beta1/healthz`: whether a list of a resource without a namespace shows only what is shared.

    In multi-user mode that holds for pipelines kept in KFP's database (`listPipelines` in its
    pipeline_server.go). Those kept as Kubernetes objects are listed in all namespaces, and a
    KFP that does not say where it keeps them is not believed.
    """
    shared = answer.get("multi_user") is True and answer.get("pipeline_store") == "database"
    return Found("") if asked == "pipelines" and shared else None


def unexpected(what: str) -> Unavailable:
    """Return the error for an answer that cannot be used; `what` completes a sentence."""
    return Unavailable("lookup_bad_answer", f"The owner of an object could not be found out: the answer {what}.")


def _is(answer: Mapping[str, Any], key: str, asked: str) -> bool:
    """Whether an answer is about the id that was asked for; databases that fold case answer for others too."""
    if answer.get("error"):
        raise unexpected("reports an error")
    told = _text(answer, key)
    if not told:
        raise unexpected(f"has no {key}")
    return told == asked


def _namespace(answer: Mapping[str, Any]) -> str:
    namespace = _text(answer, "namespace")
    if _NAMESPACE.fullmatch(namespace) is None:
        raise unexpected("names no namespace")
    return namespace


def _text(answer: Mapping[str, Any], key: str) -> str:
    """Return a text; what is missing reads as empty, as protobuf JSON has it."""
    value = answer.get(key) or ""
    if not isinstance(value, str):
        raise unexpected(f"has a {key} that is not text")
    return value


def _member(answer: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    value = answer.get(key) or kind()
    if not isinstance(value, kind):
        raise unexpected(f"has a {key} of an unexpected form")
    return value


def _referenced(references: list[Any], types: tuple[str, int]) -> set[str]:
    """Return the ids of the references of one type, which is told by its name or its number."""
    found = set()
    for reference in references:
        if not isinstance(reference, dict):
            raise unexpected("has a reference of an unexpected form")
        key = _member(reference, "key", dict)
        if key.get("type") in types:
            found.add(_text(key, "id"))
    return found


def _only(values: set[str]) -> str:
    if len(values) > 1:
        raise unexpected("names several owners")
    return next(iter(values), "")


def _workflow_name(answer: Mapping[str, Any]) -> str:
    """Return the name of the run's workflow, which is what KFP reviews; empty where it is not told."""
    manifest = _text(_member(answer, "pipeline_runtime", dict), "workflow_manifest")
    return _text(_member(document(manifest.encode()), "metadata", dict), "name") if manifest else ""
