"""Users whose rights come from groups: refused by KFP itself, or here with a reason, as the policy's files say."""

from __future__ import annotations

import pytest

from extauthz.decision import Decision
from extauthz.errors import ConfigurationError
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
TENSORBOARD = "/tensorboard/team-a/tb/"
EVENTS = "/pipeline/k8s/pod/events?podname=p&podnamespace=team-a"


def shipped(**values: str) -> Policy:
    return load([REPOSITORY / "policies" / "kubeflow"], KEYS, LOOKUPS, values=values)


def decide(policy: Policy, who: Named, target: str) -> Decision:
    made = Gateway(
        policy=policy, authenticator=who, authorizer=authorizer(), response=ResponseSettings(), lookup=OBJECTS
    )
    decision = made.decide(read(method="GET", target=target, headers={}))
    assert isinstance(decision, Decision)
    return decision


def test_with_groups_the_gateway_lets_pass_what_a_group_may() -> None:
    """By default; KFP, which knows no groups, may still refuse."""
    assert all(decide(shipped(), AUDITOR, target).allowed for target in (RUNS, ARTIFACT, EVENTS, TENSORBOARD))


def test_reviewed_as_kfp_does_the_refusal_comes_from_here() -> None:
    """It says which right is missing; what nobody reviews again still knows groups."""
    as_kfp = shipped(**{"pipelines-review-as": "user"})
    for target in (RUNS, ARTIFACT, EVENTS):
        refused = decide(as_kfp, AUDITOR, target)
        assert refused.status == 403
        assert 'User "frank@example.com" cannot' in refused.message
        assert decide(as_kfp, Named("alice@example.com"), target).allowed
    assert decide(as_kfp, AUDITOR, TENSORBOARD).allowed


def test_only_two_words_are_known() -> None:
    """Any other would leave open who is asked about."""
    with pytest.raises(ConfigurationError, match="reviewAs: 'users' is neither subject nor user"):
        shipped(**{"pipelines-review-as": "users"})
