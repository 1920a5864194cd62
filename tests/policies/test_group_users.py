"""Users whose rights come from groups: refused by KFP itself, or here with a reason, as the policy's files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from extauthz.decision import Decision
from extauthz.gateway import Gateway
from extauthz.policy import Policy, load
from extauthz.request import read
from extauthz.settings import ResponseSettings
from tests.cases import KEYS, LOOKUPS, REPOSITORY, Named
from tests.policies.desk import KFP, OBJECTS
from tests.policies.test_matrix import authorizer

AUDITOR = Named("frank@example.com", ("data-auditors",))
RUNS = f"{KFP}/runs?namespace=team-a"
ARTIFACT = "/pipeline/artifacts/get?source=minio&bucket=mlpipeline&key=private-artifacts/team-a/x"
EVENTS = "/pipeline/k8s/pod/events?podname=p&podnamespace=team-a"


@pytest.fixture
def as_kfp(tmp_path: Path) -> Policy:
    """The shipped policy, with the API of pipelines reviewed as KFP reviews."""
    for file in (REPOSITORY / "policies" / "kubeflow").glob("*.yaml"):
        text = file.read_text()
        if file.name in ("pipelines-v1beta1.yaml", "pipelines-v2beta1.yaml", "pipelines-upload.yaml"):
            text = text.replace("\nplacements:", "\nreviewAs: user\nplacements:")
            assert "reviewAs: user" in text
        (tmp_path / file.name).write_text(text)
    return load([tmp_path], KEYS, LOOKUPS)


def decide(policy: Policy, who: Named, target: str) -> Decision:
    made = Gateway(
        policy=policy, authenticator=who, authorizer=authorizer(), response=ResponseSettings(), lookup=OBJECTS
    )
    decision = made.decide(read(method="GET", target=target, headers={}))
    assert isinstance(decision, Decision)
    return decision


def test_with_groups_the_gateway_lets_pass_what_a_group_may() -> None:
    """By default; KFP, which knows no groups, may still refuse."""
    shipped = load([REPOSITORY / "policies" / "kubeflow"], KEYS, LOOKUPS)
    assert all(decide(shipped, AUDITOR, target).allowed for target in (RUNS, ARTIFACT, EVENTS))


def test_reviewed_as_kfp_does_the_refusal_comes_from_here(as_kfp: Policy) -> None:
    """It says which right is missing; what KFP does not review itself still knows groups."""
    refused = decide(as_kfp, AUDITOR, RUNS)
    assert refused.status == 403
    assert 'User "frank@example.com" cannot list resource "runs"' in refused.message
    assert decide(as_kfp, AUDITOR, ARTIFACT).allowed
    assert decide(as_kfp, AUDITOR, EVENTS).allowed


def test_reviewed_as_kfp_does_users_keep_their_own_rights(as_kfp: Policy) -> None:
    """A binding to the user himself counts as before."""
    assert decide(as_kfp, Named("alice@example.com"), RUNS).allowed
