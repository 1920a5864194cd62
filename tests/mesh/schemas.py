"""Objects held against the schemas of Kubernetes, Istio and the Prometheus operator."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

KUBERNETES = "1.34"
INVALID = (jsonschema.ValidationError, kubernetes_validate.ValidationError)
"""What `check` raises."""
_FOLDER = Path(__file__).parents[1] / "data" / "schemas"


def check(found: dict[str, Any]) -> None:
    """Raise unless an object is one that the API server would take without dropping a field."""
    group, _, version = found["apiVersion"].rpartition("/")
    file = _FOLDER / f"{found['kind']}.{version}.{group}.json"
    if file.exists():
        _validator(file).validate(found)
    else:
        kubernetes_validate.validate(found, KUBERNETES, strict=True)


def check_mesh_config(content: dict[str, Any]) -> None:
    """Raise unless this is an Istio MeshConfig without unknown fields."""
    json_format.ParseDict(content, _mesh_config()())


@cache
def _validator(file: Path) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(file.read_text()))


@cache
def _mesh_config() -> Any:
    files = descriptor_pb2.FileDescriptorSet.FromString((_FOLDER / "istio-mesh-config.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("istio.mesh.v1alpha1.MeshConfig"))
