"""What the gateway protects where Kubeflow Pipelines itself does not: one test for each hole.

The holes are numbered; 7, 17, 20, 25, 26 and 27 are not here: docs/limits.md says what else to do about them.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from extauthz.found import Found
from tests.policies.desk import ADMIN, ALICE, BOB, DAVE, ERIN, KFP, MALLORY, SHARED, V1, decide, passes
from tests.policies.probe import Objects

AGENT = "system:serviceaccount:kubeflow:ml-pipeline-persistenceagent"


class Unshared(Objects):
    """Objects of a KFP whose list without a namespace shows the pipelines of all tenants."""

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002
        return None if kind == "unscoped_list" else super().namespace(kind, id, user)


def run(**fields: Any) -> dict[str, Any]:
    return {"display_name": "r", "experiment_id": "experiment.team-a", **fields}


def reference(kind: str, identifier: str, relationship: str = "OWNER") -> dict[str, Any]:
    return {"key": {"type": kind, "id": identifier}, "relationship": relationship}


EXPERIMENT = reference("EXPERIMENT", "experiment.team-a")


@pytest.mark.parametrize("who", [ALICE, ADMIN, ""])
def test_01_the_task_api_is_for_nobody(who: str) -> None:
    """Neither users nor administrators reach it, by HTTP or gRPC, at the gateway or inside."""
    assert not passes(who, "GET", "/apis/v1alpha1/tasks", at="ml-pipeline")
    assert not passes(who, "POST", "/apis/v1alpha1/tasks", {"run_id": "run.team-a"}, at="ml-pipeline")
    assert not passes(who, "POST", "/api.TaskService/CreateTaskV1", at="ml-pipeline")
    assert not passes(who, "GET", "/pipeline/apis/v1alpha1/tasks")


def test_02_a_run_s_log_takes_the_right_to_logs_in_its_namespace() -> None:
    """Whoever may read the logs of pods there reads it; nobody else does, and no path gets out of the pod's name."""
    log = "/apis/v1alpha1/runs/run.team-a/nodes/{}/log"
    assert passes(ERIN, "GET", log.format("pod-1"), at="ml-pipeline")
    assert not passes(BOB, "GET", log.format("pod-1"), at="ml-pipeline")
    assert not passes("", "GET", log.format("pod-1"), at="ml-pipeline")
    assert not passes(ERIN, "GET", log.format("Pod_1"), at="ml-pipeline")


@pytest.mark.parametrize("collection", ["runs", "recurringruns"])
def test_03_a_run_of_another_tenant_s_pipeline_takes_a_right_to_it(collection: str) -> None:
    """The pipeline's and the version's own namespaces decide, in both API versions; shared ones are for all."""

    def of(**referenced: str) -> bool:
        return passes(ALICE, "POST", f"{KFP}/{collection}", run(pipeline_version_reference=referenced))

    assert of(pipeline_id="pipeline.team-a", pipeline_version_id="pipeline_version.team-a")
    assert of(pipeline_id=SHARED)
    assert not of(pipeline_id="pipeline.team-b")
    assert not of(pipeline_id="pipeline.team-a", pipeline_version_id="pipeline_version.team-b")
    v1 = {"runs": "runs", "recurringruns": "jobs"}[collection]
    for foreign in (
        {"resource_references": [EXPERIMENT], "pipeline_spec": {"pipeline_id": "pipeline.team-b"}},
        {"resource_references": [EXPERIMENT, reference("PIPELINE", "pipeline.team-b")]},
        {"resource_references": [EXPERIMENT, reference("PIPELINE_VERSION", "pipeline_version.team-b", "CREATOR")]},
    ):
        assert not passes(ALICE, "POST", f"{V1}/{v1}", foreign)
    assert passes(ALICE, "POST", f"{V1}/{v1}", {"resource_references": [EXPERIMENT]})


@pytest.mark.parametrize("collection", ["runs", "recurringruns"])
def test_04_a_run_as_another_service_account_takes_the_right_to_use_it(collection: str) -> None:
    """The default one is KFP's own choice; any other takes `use`, which no role of a tenant has by default."""
    assert passes(ALICE, "POST", f"{KFP}/{collection}", run(service_account="default-editor"))
    assert not passes(ALICE, "POST", f"{KFP}/{collection}", run(service_account="powerful"))
    assert passes(ADMIN, "POST", f"{KFP}/{collection}", run(service_account="powerful"))
    decision = decide(ALICE, "POST", f"{KFP}/{collection}", run(service_account="powerful"))
    assert 'cannot use resource "serviceaccounts"' in decision.message


def test_05_a_client_names_no_recurring_run() -> None:
    """In either spelling and either API version."""
    assert not passes(ALICE, "POST", f"{KFP}/runs", run(recurring_run_id="job.team-a"))
    assert not passes(ALICE, "POST", f"{KFP}/runs", run(recurringRunId="job.team-a"))
    assert not passes(
        ALICE, "POST", f"{V1}/runs", {"resource_references": [EXPERIMENT, reference("JOB", "job.team-a")]}
    )
    assert not passes(
        ALICE, "POST", f"{V1}/runs", {"resource_references": [EXPERIMENT, {"key": {"type": 2, "id": "j"}}]}
    )


def test_06_a_client_chooses_no_run_id_and_always_names_an_experiment() -> None:
    """In either spelling and either API version; without an experiment nothing decides where the run belongs."""
    assert not passes(ALICE, "POST", f"{KFP}/runs", run(run_id="run.team-b"))
    assert not passes(ALICE, "POST", f"{KFP}/runs", run(runId="run.team-b"))
    assert not passes(ALICE, "POST", f"{V1}/runs", {"resource_references": [EXPERIMENT], "id": "x"})
    assert not passes(ALICE, "POST", f"{KFP}/runs", {"display_name": "r"})
    assert not passes(ADMIN, "POST", f"{KFP}/runs?experiment_id=experiment.team-a", {"display_name": "r"})


@pytest.mark.parametrize("collection", ["runs", "recurringruns"])
@pytest.mark.parametrize(
    "spec",
    [
        {"PipelineInfo": {"Name": "pipelines/pipeline.team-b"}},
        {"PipelineInfo": {"Name": "runs/run.team-b"}},
        {"pipelineInfo": {"name": "p"}, "PipelineInfo": {"Name": "recurringruns/job.team-b"}},
        {"pipelineInfo": {"name": "p", "Name": "runs/r"}},
        {"pipelineInfo": {"name": "namespaces/team-b/pipelines/p"}},
        {"pipelineInfo": {"name": {}}},
        {"pipelineInfo": "p"},
    ],
)
def test_06_a_pipeline_s_own_text_names_no_object(collection: str, spec: Any) -> None:
    """The ids of a run are where they were checked; a name inside the specification is a name and nothing else."""
    assert passes(ALICE, "POST", f"{KFP}/{collection}", run(pipeline_spec={"pipelineInfo": {"name": "doubling"}}))
    assert passes(ALICE, "POST", f"{KFP}/{collection}", run(pipeline_spec={"pipeline_spec": {}, "platform_spec": {}}))
    assert not passes(ADMIN, "POST", f"{KFP}/{collection}", run(pipeline_spec=spec))
    assert not passes(ADMIN, "POST", f"{KFP}/{collection}", run(pipelineSpec=spec))


@pytest.mark.parametrize("collection", ["runs", "recurringruns"])
def test_03_a_version_is_named_in_one_place(collection: str) -> None:
    """Not by the older field beside the reference, which no right is asked for."""
    for field in ("pipeline_version_id", "pipelineVersionId"):
        assert not passes(ADMIN, "POST", f"{KFP}/{collection}", run(**{field: "pipeline_version.team-a"}))


def test_08_a_pipeline_by_name_needs_a_namespace() -> None:
    """For everybody, and `-` is none; nor is a pipeline named like a route."""
    by_name = f"{KFP}/pipelines/names/p"
    assert passes(ALICE, "GET", f"{by_name}?namespace=team-a")
    for target in (by_name, f"{by_name}?namespace=", f"{by_name}?namespace=-", f"{KFP}/pipelines/names/versions"):
        assert not passes(ADMIN, "GET", target)


def test_09_a_list_needs_a_namespace() -> None:
    """For everybody; of pipelines only where it would show more than the shared ones, and everybody may see those."""
    for collection in ("pipelines", "runs", "recurringruns", "experiments"):
        assert not passes(ADMIN, "GET", f"{KFP}/{collection}?namespace=-")
    for listed in (f"{KFP}/runs", f"{KFP}/recurringruns", f"{KFP}/experiments", f"{V1}/experiments"):
        assert not passes(ADMIN, "GET", listed)
    for pipelines in (f"{KFP}/pipelines", f"{KFP}/pipelines?namespace=", f"{V1}/pipelines"):
        assert passes(MALLORY, "GET", pipelines)
        assert not passes("", "GET", pipelines)
        unshared = decide(ADMIN, "GET", pipelines, lookup=Unshared())
        assert (unshared.status, unshared.reason) == (400, "namespace_missing")


def test_10_a_shared_pipeline_takes_a_right_in_the_platform_s_namespace() -> None:
    """To make, to upload, to change; reading is for everybody who is logged in."""
    for method, target in (
        ("POST", f"{KFP}/pipelines/upload?name=p"),
        ("GET", f"{KFP}/pipelines/upload?name=p"),
        ("POST", f"{KFP}/pipelines/upload_version?pipelineid={SHARED}"),
        ("DELETE", f"{KFP}/pipelines/{SHARED}"),
        ("PATCH", f"{KFP}/pipelines/{SHARED}"),
    ):
        assert not passes(ALICE, method, target)
        assert passes(ADMIN, method, target)
    assert not passes(ALICE, "POST", f"{KFP}/pipelines", {"name": "p"})
    assert passes(MALLORY, "GET", f"{KFP}/pipelines/{SHARED}")
    assert not passes("", "GET", f"{KFP}/pipelines/{SHARED}")


def test_11_a_visualization_needs_a_namespace() -> None:
    """For everybody."""
    assert passes(ALICE, "POST", f"{V1}/visualizations/team-a")
    for target in (f"{V1}/visualizations/", f"{V1}/visualizations"):
        assert not passes(ADMIN, "POST", target)


def test_12_who_starts_a_pod_needs_the_right_to() -> None:
    """Viewers of a namespace start neither a TensorBoard nor a visualization; editors do."""
    for target in ("/pipeline/apps/tensorboard?namespace=team-a&logdir=x", f"{V1}/visualizations/team-a"):
        assert passes(DAVE, "POST", target)
        assert not passes(ERIN, "POST", target)


ARTIFACT = "/pipeline/artifacts/get?source=minio&bucket=mlpipeline&key="


@pytest.mark.parametrize(
    "key",
    ["private-artifacts/team-a/../team-b/x", "private-artifacts/team-a//x", "private-artifacts/team-a/%252e%252e/x"],
)
def test_13_a_key_is_read_in_one_way(key: str) -> None:
    """A key that a store could take for another one belongs to nobody."""
    assert not passes(ALICE, "GET", f"{ARTIFACT}{key}&namespace=team-a")


def test_13_an_artifact_belongs_to_its_key_s_owner() -> None:
    """Whatever namespace the client states; keys that tell no owner belong to nobody."""
    own, foreign = "private-artifacts/team-a/r/x", "private-artifacts/team-b/r/x"
    assert passes(ALICE, "GET", f"{ARTIFACT}{own}&namespace=team-a")
    assert not passes(ALICE, "GET", f"{ARTIFACT}{foreign}&namespace=team-b")
    assert not passes(ALICE, "GET", f"{ARTIFACT}{foreign}&namespace=team-a")
    assert not passes(ALICE, "GET", f"/pipeline/artifacts/minio/mlpipeline/{foreign}?namespace=team-a")
    assert not passes(ALICE, "GET", f"/pipeline/artifacts/minio/elsewhere/{own}?namespace=team-a")


@pytest.mark.parametrize("path", ["ARTIFACTS/minio", "Artifacts/minio", "artifacts/MINIO", "artifacts/Get"])
def test_14_only_one_spelling_is_served(path: str) -> None:
    """Another letter case is another path, and no route."""
    assert not passes(ADMIN, "GET", f"/pipeline/{path}/mlpipeline/private-artifacts/team-a/x?namespace=team-a")


def test_15_ownership_rests_on_the_key_alone() -> None:
    """Nothing that anybody could write elsewhere, or leave out, changes whose an artifact is."""
    key = "private-artifacts/team-b/r/x"
    for more in ("", "&namespace=team-a", "&peek=1", "&providerInfo=%7B%7D"):
        assert not passes(ALICE, "GET", f"{ARTIFACT}{key}{more}")


@pytest.mark.parametrize("source", ["volume", "http", "https", "gcs", "Minio", ""])
def test_16_only_the_platform_s_own_store_is_served(source: str) -> None:
    """Volumes of the UI server and other servers are no artifacts of a tenant."""
    key = "private-artifacts/team-a/r/x"
    assert not passes(ADMIN, "GET", f"/pipeline/artifacts/get?source={source}&bucket=mlpipeline&key={key}")
    assert not passes(ADMIN, "GET", f"/pipeline/artifacts/{source or 'x'}/mlpipeline/{key}")


def test_18_pods_events_and_logs_take_the_right_to_them() -> None:
    """In the namespace that is named; the pod's name is a name and nothing else."""
    for what in ("pod", "pod/events", "pod/logs"):
        asked = f"/pipeline/k8s/{what}?podname={{}}&podnamespace={{}}"
        assert passes(ERIN, "GET", asked.format("p", "team-a"))
        assert not passes(BOB, "GET", asked.format("p", "team-a"))
        assert not passes(ERIN, "GET", f"/pipeline/k8s/{what}?podname=p")
        for name in ("..%2Fx", "p%2574", "P", "", "a%2Fb"):
            assert not passes(ADMIN, "GET", asked.format(name, "team-a"))
        assert not passes(ADMIN, "GET", asked.format("p", "team%252Da"))


def test_18_a_log_s_day_is_a_day() -> None:
    """It is a part of the archive's key, where the pod is gone."""
    log = "/pipeline/k8s/pod/logs?podname=p&podnamespace=team-a"
    assert passes(ERIN, "GET", f"{log}&runid=r&createdat=2026-01-02")
    for day in ("2026-1-2", "..%2F..%2Fteam-b", "2026-01-02%2F..", "2026-01-02%252F..", "%24%26-01-02"):
        assert not passes(ADMIN, "GET", f"{log}&createdat={day}")
    assert not passes(ADMIN, "GET", f"{log}&createdat[]=x")


@pytest.mark.parametrize("namespace", ["evil.example", "team-a.svc", "team-a:80", "Team-A", "a/b", "a%2Fb"])
def test_19_a_namespace_is_a_dns_label(namespace: str) -> None:
    """The UI server builds host names from it."""
    assert not passes(ADMIN, "GET", f"{ARTIFACT}private-artifacts/team-a/x&namespace={namespace}")
    assert not passes(ADMIN, "GET", f"/pipeline/apps/tensorboard?namespace={namespace}")


def test_21_ml_metadata_is_not_served() -> None:
    """It knows no tenants."""
    for method in ("GetArtifacts", "PutArtifacts", "GetContextByTypeAndName"):
        assert not passes(ADMIN, "POST", f"/ml_metadata.MetadataStoreService/{method}")


def test_22_reports_are_for_controllers() -> None:
    """At the gateway and the UI server for nobody, at the API server for who has the right in all namespaces."""
    for version in ("v1beta1", "v2beta1"):
        for kind in ("workflows", "scheduledworkflows"):
            assert not passes(ADMIN, "POST", f"/pipeline/apis/{version}/{kind}")
            assert not passes(ADMIN, "POST", f"/apis/{version}/{kind}", at="ml-pipeline-ui")
            assert not passes(DAVE, "POST", f"/apis/{version}/{kind}", at="ml-pipeline")
            assert passes(ADMIN, "POST", f"/apis/{version}/{kind}", at="ml-pipeline")
    metrics = "/apis/v1beta1/runs/run.team-a:reportMetrics"
    assert not passes(ADMIN, "POST", f"/pipeline{metrics}")
    assert not passes(DAVE, "POST", metrics, at="ml-pipeline")
    assert not passes(AGENT, "POST", metrics, at="ml-pipeline")  # without its ClusterRoleBinding


def test_23_the_method_is_the_one_that_was_checked() -> None:
    """Neither a header nor the type of the body makes another of it."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    one = f"{KFP}/runs/run.team-a"
    assert passes(ALICE, "GET", one)
    assert not passes(ALICE, "POST", one, headers=form | {"x-http-method-override": "DELETE"})
    assert not passes(ALICE, "POST", f"{KFP}/runs", headers=form)


def test_24_identity_headers_are_ours() -> None:
    """What the client sends of them never reaches the upstream."""
    sent = {"kubeflow-userid": BOB, "kubeflow_userid": BOB, "kubeflow-groups": "data-auditors"}
    decision = decide(ALICE, "GET", f"{KFP}/runs?namespace=team-a", headers=sent)
    assert decision.headers == (("kubeflow-userid", ALICE),)
    assert {"kubeflow_userid", "kubeflow-groups"} <= set(decision.remove)
