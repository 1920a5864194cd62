"""Every place where Kubeflow Pipelines finds a namespace or a name can be written as a source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from extauthz.policy import syntax, template
from tests.cases import DATA, KEYS, LOOKUPS
from tests.kfp.reference import as_source

ROWS: list[dict[str, Any]] = yaml.safe_load((DATA / "kfp-surface.yaml").read_text())["endpoints"]


def locations(row: dict[str, Any]) -> Iterator[str]:
    """Every location that a row names."""
    for part in (row, *row.get("extra_checks", ())):
        keys = ("namespace_from", "name_from", "namespace_must_equal_if_present")
        yield from (part[key] for key in keys if isinstance(part.get(key), str))
        yield from part.get("namespace_overrides", ())


# kubectl's traffic goes to kube-apiserver and never meets Envoy.
@pytest.mark.parametrize("surface", sorted({row["surface"] for row in ROWS} - {"k8s-native"}))
def test_every_location_of_a_surface_is_a_source(surface: str) -> None:
    """For gRPC the message is not JSON, but its places have the same form."""
    for row in (row for row in ROWS if row["surface"] == surface):
        for text in filter(None, map(as_source, locations(row))):
            path = template.parse(re.sub(r"\*$", "{key...}", row["path"].replace("{http|https}", "http")))
            syntax.parse(text.replace("path:*", "path:key"), path, syntax.Known(KEYS, LOOKUPS))


@pytest.mark.parametrize(
    ("location", "source"),
    [
        ("query:namespace", "query:namespace"),
        ("body:pipeline.namespace", "body:/pipeline/namespace"),
        ("lookup:run.k8s_name:path:run_id", "lookup:run.name:path:run_id"),
        ("lookup:pipeline_version.pipeline_name:path:version_id", "lookup:pipeline_version.name:path:version_id"),
        (
            "lookup:pipeline:body:resource_references[key.type==PIPELINE,relationship==OWNER][-1].key.id",
            "lookup:pipeline:body:/resource_references{key/type=PIPELINE|3,relationship=OWNER|1}/key/id",
        ),
        (
            "body:resource_references[key.type==NAMESPACE][0].key.id",
            "body:/resource_references{key/type=NAMESPACE|5}/key/id",
        ),
        ("lookup:run:body:artifacts[*].run_id", "lookup:run:body:/artifacts{}/run_id"),
        ("lookup:run:query:run_ids[*]", "lookup:run:query:run_ids"),
        ("none", None),
    ],
)
def test_how_a_location_is_written(location: str, source: str | None) -> None:
    """The translation itself, where a policy's author looks for an example."""
    assert as_source(location) == source
