"""Writes tests/data/schemas anew, from the Go modules that define these kinds: `make schemas`.

Only what an object may hold is kept; descriptions are left out. A field that the API server would
drop without a word is an error here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

TARGET = Path(__file__).parents[1] / "data" / "schemas"
MODULES: dict[str, dict[str, tuple[str, ...]]] = {
    "istio.io/api@v1.29.1": {
        "kubernetes/customresourcedefinitions.gen.yaml": (
            *("AuthorizationPolicy", "DestinationRule", "EnvoyFilter", "PeerAuthentication"),
            *("RequestAuthentication", "Sidecar"),
        )
    },
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": {
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml": ("PodMonitor",),
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml": ("PrometheusRule",),
    },
    "sigs.k8s.io/gateway-api@v1.4.0": {
        "config/crd/standard/gateway.networking.k8s.io_gateways.yaml": ("Gateway",),
    },
}


_CONDITIONS = ("allOf", "anyOf", "not", "oneOf")
"""These name some of the fields only."""
_EVERY_OBJECT = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"type": "object", "required": ["name"]},
}


def collect() -> None:
    """Download the modules and write one file per kind and version."""
    for module, files in MODULES.items():
        folder = _download(module)
        for file, kinds in files.items():
            for document in yaml.safe_load_all((folder / file).read_text()):
                if document and document["spec"]["names"]["kind"] in kinds:
                    _write(document, module)


def _write(crd: dict[str, Any], module: str) -> None:
    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
    for version, schema in _versions(crd):
        content = {"$comment": f"{module}, Apache-2.0", **_strict(schema)}
        content["properties"] = {**content["properties"], **_EVERY_OBJECT}
        (TARGET / f"{kind}.{version}.{group}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")


def _versions(crd: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the schema that objects are stored by; all others of these kinds are the same."""
    for version in crd["spec"]["versions"]:
        if version["storage"]:
            yield version["name"], version["schema"]["openAPIV3Schema"]


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {}
    kept = {key: _part(key, part) for key, part in schema.items() if key != "description" and not key.startswith("x-")}
    if "type" in kept and "properties" in kept:
        kept["additionalProperties"] = False
    return kept


def _part(key: str, part: Any) -> Any:
    if key == "properties":
        return {name: _strict(value) for name, value in part.items() if name != "status"}
    return part if key in _CONDITIONS else _strict(part)


def _download(module: str) -> Path:
    go = shutil.which("go")
    if not go:
        raise SystemExit("Go is missing: it downloads the modules that hold these schemas")
    answer = subprocess.run([go, "mod", "download", "-json", module], check=True, capture_output=True, cwd="/")
    return Path(json.loads(answer.stdout)["Dir"])


if __name__ == "__main__":
    collect()
