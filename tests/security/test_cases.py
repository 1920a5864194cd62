"""The security cases that one request can show, decided by the gateway, each by its id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from extauthz.decision import Decision
from extauthz.errors import CredentialError
from extauthz.request import read
from tests.cases import ALICE, decided, gateway
from tests.security.asked import WITH_REQUEST, sent

# What a "holds" case means in terms of one decision; its `detail` says it in words.
HOLDS: dict[str, Callable[[Decision], bool]] = {
    "path-036": lambda decision: not decision.allowed,
    "path-042": lambda decision: decision.status == 400,
    "method-003": lambda decision: decision.allowed,
    "method-009": lambda decision: decision.allowed,
    "header-001": lambda decision: decision.headers == (("kubeflow-userid", ALICE),),
    "header-002": lambda decision: "kubeflow_userid" in decision.remove,
    "header-004": lambda decision: {"kubeflow-userid", "kubeflow_userid"} <= set(decision.remove),
    "header-012": lambda decision: decision.allowed,
    "mapping-014": lambda decision: not decision.allowed,
}


def decide(case: dict[str, Any]) -> Decision:
    asked = sent(case)
    read_as = read(method=asked.method, target=asked.target, headers=asked.headers)
    return decided(gateway(ALICE if asked.named else "").decide(read_as))


@pytest.mark.parametrize("case", WITH_REQUEST, ids=[case["id"] for case in WITH_REQUEST])
def test_case(case: dict[str, Any]) -> None:
    """The outcome and the status are those that the case expects."""
    decision = decide(case)
    expected = case["expected"]
    if expected["outcome"] == "holds":
        assert HOLDS[case["id"]](decision), expected["detail"]
        return
    statuses = expected["status"] if isinstance(expected["status"], list) else [expected["status"]]
    assert decision.allowed is (expected["outcome"] == "allow"), expected.get("detail")
    assert decision.status in statuses


def test_header_005_a_user_with_control_characters_gets_no_header() -> None:
    """Identity refuses such a name; if it ever came this far, the request still would not pass."""
    decision = decided(gateway("al\r\nice").decide(read(method="GET", target="/x", headers={})))
    assert not decision.allowed
    assert decision.headers == ()


def test_header_006_a_separator_in_a_group_makes_no_second_group() -> None:
    """`a,system:masters` must not be read upstream as two groups."""
    decision = decided(gateway(ALICE, "a,system:masters", "b").decide(read(method="GET", target="/x", headers={})))
    assert dict(decision.headers)["kubeflow-groups"] == "b"


def test_identity_007_an_anonymous_request_is_not_reviewed() -> None:
    """401, and the authorizer is never asked."""

    class Never:
        def review(self, *_: object) -> Any:
            raise AssertionError("reviewed")

    decision = decided(gateway("", authorizer=Never()).decide(read(method="GET", target="/app", headers={})))
    assert decision.status == 401


def test_mapping_006_several_namespaces_must_all_be_allowed() -> None:
    """A key of team-b with `namespace=team-a` is refused whatever else it says."""
    for key in ("private-artifacts/team-b/x", "private/team-b/x", "x/private-artifacts/team-a/y"):
        target = f"/pipeline/artifacts/get?source=minio&bucket=mlpipeline&key={key}&namespace=team-a"
        assert decided(gateway().decide(read(method="GET", target=target, headers={}))).status == 403


def test_failclosed_010_no_check_rests_on_assert() -> None:
    """`python -O` strips assertions, so none may stand in the package."""
    import ast
    from pathlib import Path

    import extauthz

    for file in Path(extauthz.__file__).parent.rglob("*.py"):
        found = [node.lineno for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Assert)]
        assert not found, f"{file}: {found}"


def test_response_008_the_authorizers_words_stay_inside() -> None:
    """They name bindings, which are nobody's business but the admin's."""
    from extauthz.edge import reply
    from extauthz.request import Request

    class Telling:
        def review(self, subject: object, attributes: Any) -> Any:
            from extauthz.review import Review

            return Review(attributes, False, "RBAC: secret binding", "secret error")

    asked: Request = read(method="GET", target="/app", headers={})
    told = reply.PLAIN.reply(decided(gateway(authorizer=Telling()).decide(asked)), asked)
    assert b"secret" not in told.body


def test_credential_errors_do_not_repeat_the_credential() -> None:
    """A log or a page must not show a token."""
    assert "Bearer" not in str(CredentialError("token_malformed", "The token is malformed."))
