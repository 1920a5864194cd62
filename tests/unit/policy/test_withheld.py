"""What a rule keeps from the upstream."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from extauthz import policy
from extauthz.review import Attributes, Review
from extauthz.subject import Subject
from tests.cases import ALICE, Named, decided, gateway, policy_of, request


@dataclass
class Asking:
    """An authorizer that grants everything and remembers who asked."""

    asked: list[Subject] = field(default_factory=list)

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        self.asked.append(subject)
        return Review(attributes, True)


RULE = "- {name: nb, match: {path: /nb}, allow: authenticated, removeCookies: [oauth2_proxy], removeHeaders: [%s]}"


@pytest.mark.parametrize(
    ("cookie", "kept"),
    [
        ("_xsrf=1; oauth2_proxy_kubeflow=a; theme=dark", "_xsrf=1; theme=dark"),
        ("oauth2_proxy_kubeflow_0=a; oauth2_proxy_kubeflow_1=b; _xsrf=1", "_xsrf=1"),
        ("_xsrf=1;oauth2_proxy=a", "_xsrf=1"),
        ("_xsrf=1,oauth2_proxy=a; b=2", "b=2"),
        ("oauth2_proxy=a", None),
        ("a=oauth2_proxy", ""),
        ("", ""),
    ],
)
def test_named_cookies_are_taken_off(tmp_path: Path, cookie: str, kept: str | None) -> None:
    """The others are passed on as they are; where none is left the header goes; where none is named nothing changes."""
    made = gateway(policy=policy_of(tmp_path, RULE % ""))
    decision = decided(made.decide(request("GET", "/nb", cookie=cookie)))
    assert decision.allowed
    assert dict(decision.headers).get("cookie", "") == (kept or "")
    assert ("cookie" in decision.remove) is (kept is None)


NAME = "kf_login"


@pytest.mark.parametrize("name", [NAME, f"{NAME}_0", f"{NAME}_15", f"{NAME}_csrf", f"{NAME}_abc_csrf", "oauth2_proxy"])
def test_the_sessions_own_cookies_are_taken_off_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    """A rule that removes any cookie removes those of the settings' session; the others stay."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"apiVersion: extauthz.dev/v1\nkind: Policy\nrules:\n{RULE % ''}\n")
    made = gateway(policy=policy.load([file], {}, session_cookie=NAME))
    decision = decided(made.decide(request("GET", "/nb", cookie=f"_xsrf=1; {name}=secret; theme=dark")))
    assert dict(decision.headers)["cookie"] == "_xsrf=1; theme=dark"


def test_a_rule_that_removes_no_cookie_leaves_the_session_alone(tmp_path: Path) -> None:
    """The platform's own back ends may need it."""
    file = tmp_path / "policy.yaml"
    file.write_text(
        "apiVersion: extauthz.dev/v1\nkind: Policy\nrules:\n"
        "- {name: h, match: {path: /nb}, allow: authenticated, removeHeaders: [x-other]}\n"
    )
    made = gateway(policy=policy.load([file], {}, session_cookie=NAME))
    decision = decided(made.decide(request("GET", "/nb", cookie=f"{NAME}=secret")))
    assert "cookie" not in dict(decision.headers)
    assert "cookie" not in decision.remove


def test_whole_headers_are_taken_off(tmp_path: Path) -> None:
    """No name is both set and removed, not even one that proves the identity."""
    made = gateway(policy=policy_of(tmp_path, RULE % "authorization, kubeflow-userid"))
    decision = decided(made.decide(request("GET", "/nb", authorization="Bearer x")))
    assert {"authorization", "kubeflow-userid"} <= set(decision.remove)
    assert not set(dict(decision.headers)) & set(decision.remove)


def test_a_public_rule_withholds_too(tmp_path: Path) -> None:
    """Whoever is let in, the upstream does not see it."""
    rule = "- {name: p, match: {path: /p}, allow: public, removeHeaders: [authorization]}"
    decision = decided(gateway("", policy=policy_of(tmp_path, rule)).decide(request("GET", "/p", authorization="x")))
    assert "authorization" in decision.remove


@pytest.mark.parametrize(("review_as", "groups"), [("subject", ("g", "system:authenticated")), ("user", ())])
def test_reviews_by_the_name_alone(tmp_path: Path, review_as: str, groups: tuple[str, ...]) -> None:
    """A file can ask as KFP itself does, without groups."""
    asking = Asking()
    file = tmp_path / "p.yaml"
    right = "{verb: get, resource: r, namespace: a}"
    file.write_text(
        f"apiVersion: extauthz.dev/v1\nkind: Policy\nreviewAs: {review_as}\n"
        f"rules:\n- {{name: r, match: {{path: /r}}, access: [{right}]}}\n"
    )
    made = gateway(authenticator=Named(ALICE, ("g",)), policy=policy.load([file], {}), authorizer=asking)
    decided(made.decide(request("GET", "/r")))
    assert [(subject.user, subject.groups) for subject in asking.asked] == [(ALICE, groups)]
