"""Which of several places says where an object belongs, as Kubeflow Pipelines itself reads them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.policies.desk import ALICE, BOB, KFP, SHARED, V1, passes


def reference(kind: str | int, identifier: str, relationship: str | int = "OWNER") -> dict[str, Any]:
    return {"key": {"type": kind, "id": identifier}, "relationship": relationship}


def created(who: str, collection: str, *references: dict[str, Any], spelled: str = "resource_references") -> bool:
    return passes(who, "POST", f"{V1}/{collection}", {"name": "n", spelled: list(references)})


@pytest.mark.parametrize("collection", ["runs", "recurringruns"])
def test_an_experiment_decides_a_list(collection: str) -> None:
    """Alone it is enough; beside a namespace it must be of that namespace, in either spelling."""
    listed = f"{KFP}/{collection}?"
    assert passes(ALICE, "GET", f"{listed}experiment_id=experiment.team-a")
    assert passes(ALICE, "GET", f"{listed}experimentId=experiment.team-a&namespace=team-a")
    assert not passes(ALICE, "GET", f"{listed}experiment_id=experiment.team-b&namespace=team-a")
    assert not passes(ALICE, "GET", f"{listed}experimentId=experiment.team-b&namespace=team-a")
    assert not passes(ALICE, "GET", f"{listed}experiment_id=nowhere&namespace=team-a")


@pytest.mark.parametrize("collection", ["runs", "jobs"])
def test_a_v1_list_is_of_a_namespace_or_of_an_experiment(collection: str) -> None:
    """The type says which, by its name or its number; any other type is refused."""
    key = f"{V1}/{collection}?resource_reference_key."
    for kind, identifier in (
        ("NAMESPACE", "team-a"),
        ("5", "team-a"),
        ("EXPERIMENT", "experiment.team-a"),
        ("1", "experiment.team-a"),
    ):
        assert passes(ALICE, "GET", f"{key}type={kind}&resource_reference_key.id={identifier}")
        assert not passes(BOB, "GET", f"{key}type={kind}&resource_reference_key.id={identifier}")
    for kind in ("PIPELINE", "namespace", "", "05"):
        assert not passes(ALICE, "GET", f"{key}type={kind}&resource_reference_key.id=team-a")
    assert not passes(ALICE, "GET", f"{key}id=team-a")


def test_a_v1_list_of_pipelines_without_a_reference_is_of_shared_ones() -> None:
    """Everybody who is logged in may see those."""
    assert passes(BOB, "GET", f"{V1}/pipelines")
    assert not passes("", "GET", f"{V1}/pipelines")
    assert not passes(
        BOB, "GET", f"{V1}/pipelines?resource_reference_key.type=NAMESPACE&resource_reference_key.id=team-a"
    )
    assert not passes(BOB, "GET", f"{V1}/pipelines?resource_reference_key.id=team-a")


def test_references_of_one_type_must_agree() -> None:
    """KFP takes the first or the last, so two that differ are refused; names and numbers are the same type."""
    own, foreign = reference("EXPERIMENT", "experiment.team-a"), reference(1, "experiment.team-b")
    assert created(ALICE, "runs", own)
    assert created(ALICE, "runs", own, spelled="resourceReferences")
    assert not created(ALICE, "runs", own, foreign)
    assert not created(ALICE, "runs", foreign, own)
    assert not created(ALICE, "runs", own, reference("NAMESPACE", "team-b"))
    assert created(ALICE, "runs", own, reference("NAMESPACE", "team-a"))
    assert not created(ALICE, "runs", reference("NAMESPACE", "team-a"))


def test_a_version_belongs_to_the_pipeline_that_owns_it() -> None:
    """The reference with the relationship OWNER; without one there is nothing to ask for."""
    own = reference("PIPELINE", "pipeline.team-a")
    assert created(ALICE, "pipeline_versions", own)
    assert created(ALICE, "pipeline_versions", reference(3, "pipeline.team-a", 1))
    assert not created(BOB, "pipeline_versions", own)
    assert not created(ALICE, "pipeline_versions", reference("PIPELINE", "pipeline.team-a", "CREATOR"))
    assert not created(ALICE, "pipeline_versions", reference("PIPELINE", SHARED))


def test_a_version_s_own_pipeline_decides_and_not_the_one_in_the_path() -> None:
    """For reading, changing and deleting."""
    foreign = f"{KFP}/pipelines/pipeline.team-a/versions/pipeline_version.team-b"
    for method in ("GET", "PATCH", "DELETE"):
        assert not passes(ALICE, method, foreign)
        assert passes(BOB, method, foreign)


def test_a_recurring_run_s_namespace_must_be_its_experiment_s() -> None:
    """The namespace alone is not enough."""
    made = {"display_name": "n", "experiment_id": "experiment.team-a"}
    assert passes(ALICE, "POST", f"{KFP}/recurringruns", made)
    assert passes(ALICE, "POST", f"{KFP}/recurringruns", made | {"namespace": "team-a"})
    assert not passes(ALICE, "POST", f"{KFP}/recurringruns", made | {"namespace": "team-b"})
    assert not passes(ALICE, "POST", f"{KFP}/recurringruns", {"display_name": "n", "namespace": "team-a"})


def test_a_batch_stays_within_one_namespace_and_one_run() -> None:
    """Every element must say the same."""
    item = {"artifact": {"namespace": "team-a"}, "run_id": "run.team-a"}
    batch = f"{KFP}/artifacts:batchCreate"
    # The roles of the demo know neither `artifacts` nor `update` on runs yet, so only refusals can be told apart.
    wrong: list[list[Any]] = [
        [{"artifact": {"namespace": "team-b"}, "run_id": "run.team-a"}],
        [{"artifact": {}}],
        [None],
    ]
    for others in wrong:
        assert not passes("admin@example.com", "POST", batch, {"artifacts": [item, *others]})
    assert passes("admin@example.com", "POST", batch, {"artifacts": [item, item]})
    assert not passes("admin@example.com", "POST", batch, {"artifacts": []})
