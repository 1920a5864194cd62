"""How a decision is told: to the upstream, to people and to programs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from extauthz.decision import Decision, Outcome, Reason, RuleRef, failed
from extauthz.errors import CredentialError, ExtauthzError, Refused, Unavailable
from extauthz.request import Request, read
from extauthz.review import MissingRight, NonResourceAttributes, ResourceAttributes, Review, qualified
from extauthz.subject import Subject
from tests.cases import ALICE, decided, gateway, request


def test_the_json_form_tells_all_but_secrets() -> None:
    """Who asks and what was answered in full; a credential for the upstream is not shown."""
    who = Subject(ALICE, ("team",), uid="7", extra=(("scopes", ("a", "b")),), authenticator="test")
    right = NonResourceAttributes("get", "/x")
    decision = Decision(
        Outcome.DENY,
        403,
        Reason.FORBIDDEN,
        "No.",
        subject=who,
        reviews=(Review(right, False, "no role", "broken role"), Review(right, True)),
        headers=(("authorization", "Bearer secret"), ("x-user", ALICE)),
        remove=("x-other",),
    )
    answer = {"verb": "get", "path": "/x", "allowed": False, "reason": "no role", "evaluationError": "broken role"}
    assert decision.as_json() == {
        "outcome": "deny",
        "status": 403,
        "reason": "forbidden",
        "message": "No.",
        "rule": None,
        "identity": {
            "user": ALICE,
            "groups": ["team"],
            "uid": "7",
            "extra": {"scopes": ["a", "b"]},
            "authenticator": "test",
        },
        "reviews": [answer, {"verb": "get", "path": "/x", "allowed": True, "reason": ""}],
        "headers": {"authorization": "(secret)", "x-user": ALICE, "x-other": None},
    }
    nobody = decided(gateway("").decide(request("GET", "/unknown"))).as_json()
    assert (nobody["rule"], nobody["identity"]) == (None, None)
    rule = decided(gateway().decide(request("GET", "/pipeline/apis/v2beta1/runs?namespace=team-a"))).as_json()["rule"]
    assert set(rule) == {"name", "file", "line"}


@pytest.mark.parametrize(
    ("names", "text"),
    [(("pods",), "pods"), (("runs", "kfp.org"), "runs.kfp.org"), (("runs", "kfp.org", "log"), "runs.kfp.org/log")],
)
def test_a_resource_is_named_as_kubectl_does(names: tuple[str, ...], text: str) -> None:
    """Group and subresource only where there are any."""
    assert qualified(*names) == text


def test_of_a_hidden_right_neither_namespace_nor_name_is_told() -> None:
    """Either would tell whose object it is."""
    right = ResourceAttributes("get", resource="runs", namespace="team-a", name="run-1")
    assert MissingRight.of(right, hidden=True).attributes == ResourceAttributes("get", resource="runs")
    assert MissingRight.of(right, hidden=False).attributes == right


def test_another_proxys_word_for_a_user_is_taken_off_where_it_was_sent() -> None:
    """Upstreams believe some of these names; those that nobody sent are not in every answer."""
    sent = {"x_webauth_user": "root", "x-forwarded-email": "root@example.com", "accept": "*/*"}
    forged = decided(gateway().decide(read(method="GET", target="/x", headers=sent)))
    honest = decided(gateway().decide(read(method="GET", target="/x", headers={"accept": "*/*"})))
    assert forged.remove == (*honest.remove, "x-forwarded-email", "x_webauth_user")


@dataclass
class WithCredential:
    """An authenticator that hands on headers for the upstream."""

    headers: tuple[tuple[str, str], ...]

    def authenticate(self, request: Request) -> Subject:
        return Subject.authenticated(ALICE, credential=self.headers)


def test_a_sessions_credential_reaches_the_upstream_but_not_as_a_name() -> None:
    """What tells the user is ours alone, whatever a session says."""
    named = WithCredential((("authorization", "Bearer token"), ("kubeflow-userid", "root"), ("kubeflow-groups", "a")))
    decision = decided(gateway(authenticator=named).decide(request("GET", "/x")))
    assert decision.headers == (("kubeflow-userid", ALICE), ("authorization", "Bearer token"))


RULE = RuleRef("runs", "policy.yaml", 7)
WHO = Subject.authenticated(ALICE)


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (Refused("odd", "Odd.", status=403), Decision(Outcome.DENY, 403, "odd", "Odd.", RULE, WHO)),
        (
            CredentialError("token_expired", "Expired.", login="/login"),
            Decision(Outcome.UNAUTHENTICATED, 401, "token_expired", "Expired.", RULE, login="/login"),
        ),
        (
            Unavailable("slow", "Slow.", retry_after=7),
            Decision(Outcome.ERROR, 503, "slow", "Slow.", RULE, WHO, retry_after=7),
        ),
        (
            ExtauthzError("of a new kind"),
            Decision(Outcome.ERROR, 503, Reason.INTERNAL_ERROR, "The request could not be checked.", RULE, WHO),
        ),
    ],
)
def test_what_each_error_becomes(error: ExtauthzError, decision: Decision) -> None:
    """Rule and user are told with it; who has no valid credential is nobody."""
    assert failed(error, rule=RULE, subject=WHO) == decision
