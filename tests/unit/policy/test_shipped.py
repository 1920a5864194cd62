"""The shipped policies against the reference of Kubeflow's surfaces: same rights, same places of the namespace."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz import policy
from extauthz.policy import Answer, Missing, Policy, Rule
from extauthz.request import Body, read
from extauthz.review import ResourceAttributes
from tests.unit.policy.build import KEYS, outcome

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = REPOSITORY / "tests" / "data"
FILES = [
    REPOSITORY / "policies" / "kubeflow" / f"{name}.yaml" for name in ("pipelines-v2beta1", "artifacts", "notebooks")
]
KFP = "/pipeline/apis/v2beta1"


@dataclass(frozen=True)
class Case:
    """A request that alice may make in team-a, and the reference's row for its route."""

    rule: str
    method: str
    target: str
    row: str
    body: str = ""
    name: str = ""
    namespaces: tuple[str, ...] = field(default=("query:namespace",))


CASES = [
    Case("kfp-v2beta1-runs-list", "GET", f"{KFP}/runs?namespace=team-a", f"{KFP}/runs"),
    Case("kfp-v2beta1-recurringruns-list", "GET", f"{KFP}/recurringruns?namespace=team-a", f"{KFP}/recurringruns"),
    Case("kfp-v2beta1-experiments-list", "GET", f"{KFP}/experiments?namespace=team-a", f"{KFP}/experiments"),
    Case(
        "kfp-v2beta1-experiments-create",
        "POST",
        f"{KFP}/experiments",
        f"{KFP}/experiments",
        body='{"displayName": "one", "namespace": "team-a"}',
        name="one",
        namespaces=("body:/namespace",),
    ),
    Case("kfp-v2beta1-pipelines-list", "GET", f"{KFP}/pipelines?namespace=team-a", f"{KFP}/pipelines"),
    Case(
        "kfp-v2beta1-pipelines-create",
        "POST",
        f"{KFP}/pipelines",
        f"{KFP}/pipelines",
        body='{"name": "one", "namespace": "team-a"}',
        name="one",
        namespaces=("body:/namespace",),
    ),
    Case(
        "kfp-v2beta1-pipelines-create-with-version",
        "POST",
        f"{KFP}/pipelines/create",
        f"{KFP}/pipelines/create",
        body='{"pipeline": {"name": "one", "namespace": "team-a"}, "pipeline_version": {}}',
        name="one",
        namespaces=("body:/pipeline/namespace",),
    ),
    Case(
        "kfp-v2beta1-pipelines-get-by-name",
        "GET",
        f"{KFP}/pipelines/names/my%20one?namespace=team-a",
        f"{KFP}/pipelines/names/{{name}}",
        name="my one",
    ),
    Case(
        "kfp-v1beta1-pipelines-get-by-name",
        "GET",
        "/pipeline/apis/v1beta1/namespaces/team-a/pipelines/one",
        "/pipeline/apis/v1beta1/namespaces/{namespace}/pipelines/{name}",
        name="one",
        namespaces=("path:namespace",),
    ),
    Case(
        "artifacts-get",
        "GET",
        "/pipeline/artifacts/get?source=minio&bucket=mlpipeline&key=private-artifacts%2Fteam-a%2Fx&namespace=team-a",
        "/pipeline/artifacts/get",
        namespaces=("key:artifact:query:key", "query:namespace?"),
    ),
    Case(
        "artifacts-get-by-path",
        "GET",
        "/pipeline/artifacts/minio/mlpipeline/private-artifacts/team-a/x?namespace=team-a",
        "/pipeline/artifacts/{source}/{bucket}/*",
        namespaces=("key:artifact:path:key", "query:namespace?"),
    ),
    Case(
        "notebook",
        "GET",
        "/notebook/team-a/nb/lab/tree//a%2Fb",
        "/notebook/{ns}/{name}/{rest...}",
        name="nb",
        namespaces=("path:namespace",),
    ),
]


@cache
def shipped() -> Policy:
    """Return the policy of the three first surfaces."""
    return policy.load(FILES, KEYS)


def rows(name: str) -> list[dict[str, Any]]:
    """Return the routes of a reference file."""
    loaded = yaml.safe_load((DATA / name).read_text())
    found: list[dict[str, Any]] = loaded.get("endpoints") or loaded["routes"]
    return found


@cache
def reference() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows by method and path at the gateway."""
    kfp = {(row["method"], row["gateway_path"]): row for row in rows("kfp-surface.yaml")}
    platform = {("GET", row["path"]): row for row in rows("kubeflow-platform.yaml")}
    return platform | kfp


def asked(case: Case) -> tuple[Rule, Any]:
    """Return the rule that decides a case and what it puts up for review."""
    body = Body(case.body.encode())
    request = read(method=case.method, target=case.target, headers={"content-type": "application/json"}, body=body)
    rule = shipped().find(request)
    assert isinstance(rule, Rule)
    assert rule.fault(request) is None
    return rule, outcome(rule, request)


OURS = {
    "lookup:artifact_key:query:key": "key:artifact:query:key",
    "lookup:artifact_key:path:*": "key:artifact:path:key",
    "path:{ns}": "path:namespace",
    "path:{name}": "path:name",
}
"""Locations of the reference that our sources write in another way."""


def as_source(location: str) -> str:
    """Return a location of the reference as our sources write it."""
    kind, _, rest = location.partition(":")
    return "body:/" + rest.replace(".", "/") if kind == "body" else OURS.get(location, location)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_alice_gets_by(case: Case) -> None:
    """Each shipped route asks for the reference's right, in team-a, on the object that the request names."""
    rule, found = asked(case)
    row = reference()[case.method, case.row]
    expected = ResourceAttributes(
        verb=row["verb"],
        group=row["group"],
        version=row["version"],
        resource=row["resource"],
        namespace="team-a",
        name=case.name,
    )
    assert (rule.ref.name, found) == (case.rule, (expected,))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_the_namespace_comes_from_where_the_reference_says(case: Case) -> None:
    """The upstream reads the namespace in the same place as the rule."""
    rule, _ = asked(case)
    row = reference()[case.method, case.row]
    (check,) = rule.checks
    sources = {name: bound.text for name, bound in check.bounds()}
    namespaces = tuple(bound.text for name, bound in check.bounds() if name == "namespace")
    assert namespaces == case.namespaces
    assert namespaces[0] == as_source(row["namespace_from"])
    if "namespace_must_equal_if_present" in row:
        assert namespaces[1] == as_source(row["namespace_must_equal_if_present"]) + "?"
    named = row["name_from"] if row.get("name_from") not in (None, "none") else ""
    assert sources.get("name", "").removesuffix("?") == (as_source(named) if named else "")


def test_every_shipped_rule_is_tried() -> None:
    """No rule comes without a request that shows what it is for."""
    others = {rule.ref.name for rule in shipped().rules if rule.answer is not Answer.ACCESS}
    assert others == {"kfp-v2beta1-healthz", "artifacts-volume"}
    assert {rule.ref.name for rule in shipped().rules} - others == {case.rule for case in CASES}


@pytest.mark.parametrize(
    ("method", "target", "body", "expected"),
    [
        ("GET", f"{KFP}/runs", "", "namespace_missing"),
        ("GET", f"{KFP}/runs?namespace=", "", "namespace_missing"),
        ("GET", f"{KFP}/runs?namespace=-", "", "namespace_invalid"),
        ("GET", f"{KFP}/runs?namespace=team-a&experiment_id=x", "", "forbidden_value"),
        ("GET", f"{KFP}/runs?namespace=team-a&experimentId=x", "", "forbidden_value"),
        ("GET", f"{KFP}/recurringruns?namespace=team-a&experimentId=x", "", "forbidden_value"),
        ("GET", f"{KFP}/pipelines", "", "namespace_missing"),
        ("GET", f"{KFP}/pipelines/names/one", "", "namespace_missing"),
        ("POST", f"{KFP}/pipelines", "{}", "namespace_missing"),
        ("POST", f"{KFP}/pipelines", '{"namespace": "-"}', "namespace_invalid"),
        ("POST", f"{KFP}/experiments", '{"namespace": "team-a", "Namespace": "team-b"}', "body_spelling"),
        ("GET", "/pipeline/artifacts/get?source=minio&key=shared/x&namespace=team-a", "", "key_owner_unknown"),
        ("GET", "/pipeline/artifacts/get?source=minio&bucket=b&namespace=team-a", "", "namespace_missing"),
        (
            "GET",
            "/pipeline/artifacts/get?source=minio&bucket=b&key=private-artifacts/team-b/x&namespace=team-a",
            "",
            "namespaces_differ",
        ),
    ],
)
def test_what_no_shipped_rule_lets_by(method: str, target: str, body: str, expected: str) -> None:
    """Holes of the upstreams stay closed: no namespace, two namespaces, two readings of one."""
    assert asked(Case("", method, target, "", body=body))[1] == expected


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/pipeline/"),
        ("GET", "/apis/v2beta1/runs?namespace=team-a"),
        ("GET", "/notebook/team-a/nb"),
        ("GET", "/notebook/team-a//"),
        ("GET", f"{KFP}/runs/"),
        ("POST", f"{KFP}/runs"),
        ("DELETE", f"{KFP}/runs"),
        ("GET", "/PIPELINE/apis/v2beta1/runs?namespace=team-a"),
        ("GET", "/pipeline/ARTIFACTS/minio/mlpipeline/private-artifacts/team-a/x"),
        ("GET", "/Notebook/team-a/nb/"),
        ("GET", "/pipeline/artifacts/s3/b/private-artifacts/team-a/x"),
        ("GET", "/pipeline/artifacts/get/"),
    ],
)
def test_what_no_rule_covers(method: str, target: str) -> None:
    """Everything else is refused."""
    assert isinstance(shipped().find(read(method=method, target=target, headers={})), Missing)


@pytest.mark.parametrize(
    "target", ["/pipeline/artifacts/volume/v/private-artifacts/team-a/x", "/pipeline/artifacts/volume/"]
)
def test_volumes_are_refused(target: str) -> None:
    """The UI server's own files belong to nobody."""
    rule = shipped().find(read(method="GET", target=target, headers={}))
    assert isinstance(rule, Rule)
    assert rule.answer is Answer.DENY
