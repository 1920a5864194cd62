"""The stub Kubeflow against the reference: every route lands where it was measured to land, quirks included."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubeflow.apps import Served, serve
from tests.kubeflow.gateway import find
from tests.kubeflow.objects import Store
from tests.kubeflow.pipelines import PipelinesApi
from tests.kubeflow.wire import JSON, Call, Wrong

_FORM = "application/x-www-form-urlencoded"
_ROWS = yaml.load((Path(__file__).parents[1] / "data" / "kfp-surface.yaml").read_text(), Loader=yaml.CSafeLoader)
_REST = [row for row in _ROWS["endpoints"] if row["surface"] in ("rest-v1beta1", "rest-v2beta1")]
_RUNS = "/apis/v2beta1/runs"


def _call(method: str, target: str, body: bytes = b"", **headers: str) -> Call:
    path, _, query = target.partition("?")
    return Call(method, path, query, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def _name(call: Call) -> str:
    return find(call).name.rpartition("/")[2]


@pytest.mark.parametrize("row", _REST, ids=lambda row: f"{row['method']} {row['path']}")
def test_every_row_lands_on_its_rpc(row: dict[str, Any]) -> None:
    """Each route of the reference runs the RPC that the reference names, or none where it is not served."""
    call = _call(row["method"], re.sub(r"\{[^}]*\}", "x", row["path"]))
    if row["served"]:
        assert find(call).name == row["rpc"]
    else:
        with pytest.raises(Wrong, match="Not Found"):
            find(call)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (_call("GET", "/apis/v2beta1/pipelines/upload"), "upload"),
        (_call("DELETE", "/apis/v2beta1/pipelines/%75pload_version"), "upload_version"),
        (_call("GET", "/apis/v2beta1/pipelines/names/versions"), "ListPipelineVersions"),
        (_call("GET", "/apis/v2beta1/pipelines%2Fp1"), "GetPipeline"),
        (_call("POST", f"{_RUNS}/r1%3Aarchive"), "ArchiveRun"),
        (_call("POST", f"{_RUNS}/r1:foo:archive"), "ArchiveRun"),
        (_call("GET", f"{_RUNS}/r1:foo"), "GetRun"),
        (_call("GET", f"{_RUNS}/"), "GetRun"),
        (_call("POST", f"{_RUNS}/r1", content_type=_FORM, x_http_method_override="DELETE"), "DeleteRun"),
        (_call("POST", f"{_RUNS}/r1", content_type=_FORM), "GetRun"),
        (_call("POST", "/apis/v1alpha1/runs/r1/nodes/n1/log"), "log"),
    ],
    ids=lambda value: f"{value.method} {value.path}" if isinstance(value, Call) else None,
)
def test_a_quirk_lands_where_it_was_measured(call: Call, name: str) -> None:
    """Paths are decoded once, some routes take any method, and forms become other methods."""
    assert _name(call) == name


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (_call("GET", "/apis/v2beta1//runs"), 301),
        (_call("GET", "/apis/v2beta1/%2e%2e/v2beta1/runs"), 301),
        (_call("HEAD", _RUNS), 501),
        (_call("POST", f"{_RUNS}/r1", content_type=JSON), 501),
        (_call("GET", "/apis/v2beta1/RUNS"), 404),
        (_call("GET", f"{_RUNS}?namespace=a&namespace=b"), 400),
        (_call("GET", f"{_RUNS}?namespace=a;b"), 400),
        (_call("POST", _RUNS, b'{"experiment_id":"a","experimentId":"b"}'), 400),
        (_call("POST", _RUNS, b"[]"), 400),
        (_call("POST", _RUNS, b"\xef\xbb\xbf{}"), 400),
    ],
    ids=lambda value: f"{value.method} {value.path}" if isinstance(value, Call) else None,
)
def test_what_is_refused_is_refused_as_measured(call: Call, status: int) -> None:
    """Unclean paths are redirected, unlisted methods and ambiguous names are refused."""
    with pytest.raises(Wrong) as wrong:
        find(call)
    assert wrong.value.status == status


def test_only_the_first_value_of_a_body_counts() -> None:
    """What stands after the first JSON value is ignored, and camelCase is as good as snake_case."""
    body = b' {"experimentId": "e1"} {"experimentId": "e2"}'
    assert find(_call("POST", _RUNS, body)).message == {"experiment_id": "e1"}


def test_objects_belong_to_the_tenants_that_kfp_would_give_them_to() -> None:
    """A run is in its experiment's namespace, an experiment overrides a list's namespace, and v1 tells references."""
    store = Store()
    api = PipelinesApi(store)
    mine, other = store.add("experiment", "team-a", "mine"), store.add("experiment", "team-b", "other")
    body = json.dumps({"experiment_id": other.id, "display_name": "r"}).encode()
    made = json.loads(api.answer(_call("POST", _RUNS, body)).body)
    told = json.loads(api.answer(_call("GET", f"/apis/v1beta1/runs/{made['run_id']}")).body)
    assert told["run"]["resource_references"][0]["key"] == {"type": "NAMESPACE", "id": "team-b"}
    assert api.answer(_call("GET", f"{_RUNS}?namespace=team-a&experiment_id={mine.id}")).body == b"{}"
    api.answer(_call("GET", f"{_RUNS}?namespace=team-a&experiment_id={other.id}"))
    assert api.done == [("CreateRun", "team-b"), ("GetRunV1", "team-b"), ("ListRuns", ""), ("ListRuns", "team-b")]


@pytest.mark.parametrize(
    ("method", "target", "app", "namespace"),
    [
        ("GET", "/API/Activities/team-b/", "centraldashboard", "team-b"),
        ("GET", "/api//activities/team%2Db", "centraldashboard", "team-b"),
        ("GET", "/jupyter/api/namespaces%2Fteam-b%2Fnotebooks", "jupyter-web-app", "team-b"),
        ("HEAD", "/jupyter//api/%6eamespaces/team-b/notebooks", "jupyter-web-app", "team-b"),
        ("POST", "/katib/delete_experiment/?namespace=team-b&namespace=team-a", "katib-ui", "team-b"),
        ("GET", "/pipeline/k8s/pod?podname=p&podnamespace=team%252Db", "ml-pipeline-ui", "team-b"),
        ("GET", "/pipeline/K8S/pod/logs?podname=p&podnamespace=team-b", "ml-pipeline-ui", "team-b"),
        ("DELETE", "/pipeline/apps/tensorboard?namespace=team-b", "ml-pipeline-ui", "team-b"),
        ("GET", "/notebook/team-b/nb/metrics", "notebook", "team-b"),
    ],
)
def test_an_app_reads_paths_as_its_framework_does(method: str, target: str, app: str, namespace: str) -> None:
    """Express folds, WSGI decodes before it routes, Katib takes any method and the first of two namespaces."""
    served, answered = serve(_call(method, target))
    assert isinstance(served, Served)
    assert (served.app, served.namespace, answered.status) == (app, namespace, 200)


def test_a_body_names_the_namespace_of_a_binding() -> None:
    """KFAM reads the namespace out of the body."""
    served, _ = serve(_call("POST", "/kfam/v1/bindings", b'{"referredNamespace": "team-b"}'))
    assert served == Served("kfam", "/kfam/v1/bindings", "team-b")


@pytest.mark.parametrize(("target", "status"), [("/api/nothing", 404), ("/jupyter/api//namespaces/x/pvcs", 200)])
def test_what_no_app_knows_serves_nothing(target: str, status: int) -> None:
    """An unknown path is the page of a single-page app, below `/api` it is an error."""
    served, answered = serve(_call("GET", target))
    assert (served, answered.status) == (None, status)
