"""What users' own pods never see of their visitors, by the shipped policy."""

from __future__ import annotations

import pytest

from extauthz.policy import Policy, load
from tests.cases import KEYS, LOOKUPS, REPOSITORY
from tests.policies.desk import ADMIN, decide

TOKENS = {"x-auth-request-access-token", "x-forwarded-access-token", "x-amzn-oidc-accesstoken"}
PODS = [
    ("/notebook/team-a/nb/lab", ""),
    ("/workspace/connect/team-a/ws/8888/lab", ""),
    ("/tensorboard/team-a/tb/", ""),
    ("/pvcviewers/team-a/v/files", ""),
    ("/serving/team-a/m/v1/models/m", ""),
    ("/v1/models/m", "m.team-a.example.com"),
    ("/v2/models/m", "m.team-a.example.com"),
    ("/openai/v1/chat", "m.team-a.example.com"),
    ("/pipeline/apps/tensorboard/proxy/eyJuYW1lc3BhY2UiOiJ0ZWFtLWEifQ.c2ln/", ""),
]


@pytest.mark.parametrize(("target", "host"), PODS)
def test_neither_the_session_nor_an_access_token_reaches_a_pod(target: str, host: str) -> None:
    """Its own cookies do; so does `authorization`, which a stock mesh still checks."""
    sent = {"cookie": "_xsrf=1; oauth2_proxy_kubeflow=secret; authservice_session=secret", "authorization": "Bearer x"}
    decision = decide(ADMIN, "GET", target, host=host, headers=sent)
    assert decision.allowed
    assert dict(decision.headers)["cookie"] == "_xsrf=1"
    assert set(decision.remove) >= TOKENS
    assert "authorization" not in decision.remove


def settled() -> Policy:
    """Return the shipped policy as settings without a later check of tokens have it."""
    values = {"withheld-headers": ["authorization"]}
    return load([REPOSITORY / "policies" / "kubeflow"], KEYS, LOOKUPS, values=values)


def test_the_settings_withhold_the_token_from_all_of_them() -> None:
    """One value for every rule whose upstream is a user's pod."""
    withheld = {rule.ref.name for rule in settled().rules if rule.withheld}
    assert all("authorization" in rule.withheld.headers for rule in settled().rules if rule.withheld)
    assert {decide(ADMIN, "GET", target, host=host).rule.name for target, host in PODS} == withheld  # type: ignore[union-attr]
