"""Shadow: what would have been refused is told, and nothing passes that another rule refuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from extauthz.decision import Decision, Outcome, Reason
from extauthz.errors import ConfigurationError, Unavailable
from extauthz.policy import Policy
from extauthz.request import read
from extauthz.review import Attributes, NonResourceAttributes, Review
from extauthz.subject import Subject
from tests.cases import ALICE, decided, gateway, policy_of, request

BROAD = "- {name: broad, match: {path: '/app/{rest...}'}, access: [{verb: get, path: /broad}]}\n"
NEW = "- {name: new, match: {path: '/app/x', methods: [GET]}, enforce: shadow, access: [{verb: get, path: /new}]}\n"
HEAD = "apiVersion: extauthz.dev/v1\nkind: "


@dataclass
class Rights:
    """An authorizer that grants some non-resource paths, or namespaces, at once or later."""

    granted: set[str]
    later: bool = False
    asked: list[str] = field(default_factory=list)

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        what = attributes.path if isinstance(attributes, NonResourceAttributes) else attributes.namespace
        self.asked.append(what)
        if what == "broken":
            raise Unavailable("apiserver_unreachable", "nobody answers")
        answer = Review(attributes, what in self.granted)
        return self._wait(answer) if self.later else answer

    async def _wait(self, answer: Review) -> Review:
        await asyncio.sleep(0)
        return answer


def decide(
    policy: Policy, target: str, *granted: str, user: str = ALICE, method: str = "GET", **headers: str
) -> Decision:
    """Decide a request of somebody with these rights."""
    asked = read(method=method, target=target, headers=headers)
    return decided(gateway(user, policy=policy, authorizer=Rights(set(granted))).decide(asked))


def told(decision: Decision) -> tuple[bool, str, str]:
    """What a decision comes to: whether it lets pass, why, and by which rule."""
    return decision.allowed, str(decision.reason), decision.rule.name if decision.rule else ""


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        ((), (False, "forbidden", "broad")),
        (("/new",), (False, "forbidden", "broad")),
        (("/broad",), (True, "shadow", "new")),
        (("/broad", "/new"), (True, "allowed", "broad")),
    ],
)
def test_a_new_rule_in_shadow_leaves_the_decision_to_the_rule_above_it(
    tmp_path: Path, granted: tuple[str, ...], expected: tuple[bool, str, str]
) -> None:
    """It allows nothing that the broader rule refuses, and refuses nothing that it allows."""
    assert told(decide(policy_of(tmp_path, BROAD + NEW), "/app/x", *granted)) == expected


def test_a_rule_in_shadow_may_stand_beside_the_one_that_it_is_to_replace(tmp_path: Path) -> None:
    """The same path twice is an error only where both are enforced, or both are in shadow."""
    old = NEW.replace("new", "old").replace("enforce: shadow, ", "")
    for rules in (old + NEW, NEW + old):
        policy = policy_of(tmp_path, rules)
        assert told(decide(policy, "/app/x", "/old")) == (True, "shadow", "new")
        assert told(decide(policy, "/app/x", "/new")) == (False, "forbidden", "old")
    with pytest.raises(ConfigurationError, match="decides the same requests"):
        policy_of(tmp_path, NEW + NEW.replace("name: new", "name: newer"))


def test_a_rule_in_shadow_hides_no_mistake(tmp_path: Path) -> None:
    """Two enforced rules with one path are an error, whatever stands beside them."""
    old = NEW.replace("new", "old").replace("enforce: shadow, ", "")
    for rules in (
        old + NEW + old.replace("name: old", "name: older"),
        NEW + old + old.replace("name: old", "name: older"),
    ):
        with pytest.raises(ConfigurationError, match="'older' decides the same requests as old") as raised:
            policy_of(tmp_path, rules)
        assert len(raised.value.problems) == 1


def test_a_rule_in_shadow_takes_no_other_request_with_it(tmp_path: Path) -> None:
    """Methods that it does not know are decided as if it were not there."""
    policy = policy_of(tmp_path, BROAD + NEW)
    assert told(decide(policy, "/app/x", "/broad", method="POST")) == (True, "allowed", "broad")
    assert told(decide(policy, "/app/x", method="POST")) == (False, "forbidden", "broad")
    assert decide(policy, "/elsewhere").reason == Reason.NO_RULE
    assert decide(policy, "/app/X", "/broad").reason == "path_case"


def test_a_refusal_in_shadow_passes_where_nothing_else_decides(tmp_path: Path) -> None:
    """Rights and conditions only: what cannot be read, who is unknown and what is broken is refused."""
    rule = (
        "- name: tried\n  match: {path: '/tried/{ns}'}\n  enforce: shadow\n  forbid: ['query:evil']\n"
        "  access: [{verb: get, resource: pods, namespace: path:ns}]\n  when: request.headers.a == 'b'\n"
    )
    policy = policy_of(tmp_path, rule)
    assert told(decide(policy, "/tried/team-a", "team-a", a="b")) == (True, "allowed", "tried")
    assert told(decide(policy, "/tried/team-a", a="b")) == (True, "shadow", "tried")
    lacking = decide(policy, "/tried/team-a", "team-a", a="c")
    assert told(lacking) == (True, "shadow", "tried")
    assert lacking.message == "The condition of the rule is not fulfilled."
    refused = {
        "condition_error": decide(policy, "/tried/team-a"),
        "forbidden_value": decide(policy, "/tried/team-a?evil=1", a="b"),
        "namespace_invalid": decide(policy, "/tried/Team_A", a="b"),
        "no_credential": decide(policy, "/tried/team-a", a="b", user=""),
        "apiserver_unreachable": decide(policy, "/tried/broken", a="b"),
        "empty_segment": decide(policy, "/tried//team-a", a="b"),
    }
    assert {reason: (found.reason, found.allowed) for reason, found in refused.items()} == {
        reason: (reason, False) for reason in refused
    }


def test_what_a_rule_in_shadow_cannot_read_is_for_the_other_rule_to_judge(tmp_path: Path) -> None:
    """A refusal for what the new rule wants of the request is one that it would have made."""
    strict = NEW.replace("access:", "forbid: ['query:evil'], access:")
    policy = policy_of(tmp_path, BROAD + strict)
    assert told(decide(policy, "/app/x?evil=1", "/broad")) == (True, "shadow", "new")
    assert told(decide(policy, "/app/x?evil=1", "/new")) == (False, "forbidden", "broad")


def test_missing_identity_and_errors_are_not_hidden_by_another_rule(tmp_path: Path) -> None:
    """Even above a public rule, a rule in shadow asks who asks, and what is broken refuses."""
    public = "- {name: broad, match: {path: '/app/{rest...}'}, allow: public}\n"
    policy = policy_of(tmp_path, public + NEW.replace("/new}", "broken}").replace("path: broken", "path: /new"))
    assert told(decide(policy, "/app/x")) == (True, "shadow", "new")
    assert decide(policy, "/app/x", user="").outcome is Outcome.UNAUTHENTICATED
    broken = policy_of(
        tmp_path, public + NEW.replace("verb: get, path: /new", "verb: get, resource: r, namespace: 'query:ns'")
    )
    assert decide(broken, "/app/x?ns=broken").outcome is Outcome.ERROR


def test_a_deny_rule_in_shadow_needs_another_rule_to_let_pass(tmp_path: Path) -> None:
    """It tells what it would refuse of what another rule allows; alone it refuses."""
    deny = "- {name: new, match: {path: '/app/x'}, enforce: shadow, deny: Not here.}\n"
    policy = policy_of(tmp_path, BROAD + deny)
    assert told(decide(policy, "/app/x", "/broad")) == (True, "shadow", "new")
    assert told(decide(policy, "/app/x")) == (False, "forbidden", "broad")
    assert told(decide(policy_of(tmp_path, deny), "/app/x")) == (False, "denied_by_rule", "new")


def test_faults_that_only_the_rule_in_shadow_tolerates_are_refused(tmp_path: Path) -> None:
    """The rule that decides has the last word on what may be ambiguous."""
    old = "- {name: old, match: {path: /y}, access: [{verb: get, path: /old}]}\n"
    new = old.replace("old", "new").replace("access:", "enforce: shadow, tolerate: [query_duplicate], access:")
    policy = policy_of(tmp_path, old + new)
    assert decide(policy, "/y?a=1&a=2", "/old", "/new").reason == "query_duplicate"


def test_faults_that_only_the_deciding_rule_tolerates_pass(tmp_path: Path) -> None:
    """As if the rule in shadow were not there; what it would have refused is told."""
    old = "- {name: old, match: {path: /y}, tolerate: [query_duplicate], access: [{verb: get, path: /old}]}\n"
    new = "- {name: new, match: {path: /y}, enforce: shadow, access: [{verb: get, path: /new}]}\n"
    policy = policy_of(tmp_path, old + new)
    assert told(decide(policy, "/y?a=1&a=2", "/old", "/new")) == (True, "shadow", "new")
    assert told(decide(policy, "/y?a=1&a=2", "/new")) == (False, "forbidden", "old")
    assert decide(policy_of(tmp_path, new), "/y?a=1&a=2", "/new").reason == "query_duplicate"


def test_headers_are_taken_off_whoever_decides(tmp_path: Path) -> None:
    """What either rule keeps from the upstream is kept, cookies included, and no name is both set and removed."""
    policy = policy_of(
        tmp_path,
        BROAD.replace("access:", "removeHeaders: [x-a], removeCookies: [a], access:")
        + NEW.replace("access:", "removeHeaders: [authorization], removeCookies: [b], access:"),
    )
    decision = decide(policy, "/app/x", "/broad", cookie="a=1; b=2; c=3")
    assert decision.in_shadow
    assert dict(decision.headers)["cookie"] == "c=3"
    assert {"x-a", "authorization"} <= set(decision.remove)
    assert not {name for name, _ in decision.headers} & set(decision.remove)
    both = decide(policy, "/app/x", "/broad", "/new", cookie="a=1; b=2; c=3")
    assert told(both) == (True, "allowed", "broad")
    assert dict(both.headers)["cookie"] == "c=3"
    assert {"x-a", "authorization"} <= set(both.remove)


def test_a_path_that_is_almost_another_rules_is_refused_below_a_rule_in_shadow_too(tmp_path: Path) -> None:
    """As if the rule in shadow were not there."""
    exact = BROAD.replace("broad", "exact").replace("{rest...}", "x")
    policy = policy_of(tmp_path, BROAD + exact + NEW.replace("/app/x", "/app/x/"))
    refused = decide(policy, "/app/x/", "/new", "/broad", "/exact")
    assert (refused.status, refused.reason) == (400, "trailing_slash")


async def test_a_shadow_is_told_once_however_often_the_flow_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both rules' reviews are awaited, and the log has one line."""
    rights = Rights({"/broad"}, later=True)
    with caplog.at_level(logging.WARNING):
        answer = gateway(policy=policy_of(tmp_path, BROAD + NEW), authorizer=rights).decide(request("GET", "/app/x"))
        assert not isinstance(answer, Decision)
        decision = await answer
    assert told(decision) == (True, "shadow", "new")
    assert [review.allowed for review in decision.reviews] == [False, True]
    assert rights.asked == ["/new", "/broad"]
    assert len([line for line in caplog.messages if "would refuse" in line]) == 1


NAMESPACED = (
    "- name: pods\n  match: {path: '/pods/{ns}'}\n  removeHeaders: [x-a]\n"
    "  access: [{verb: get, resource: pods, namespace: path:ns}]\n"
    "- name: both\n  match: {path: '/both/{ns}/{other}'}\n  access:\n"
    "  - {verb: get, resource: pods, namespace: path:ns}\n  - {verb: get, resource: pods, namespace: path:other}\n"
    "- {name: all, match: {path: /all}, access: [{verb: get, resource: pods}]}\n"
    "- {name: conditional, match: {path: /if}, allow: authenticated, when: identity.user == 'root'}\n"
    "- {name: never, match: {path: /never}, deny: Never.}\n"
)


def shadowed(tmp_path: Path, shadow: str, rules: str = NAMESPACED) -> Policy:
    """Load a policy with a shadow over it."""
    return policy_of(tmp_path, f"{rules}---\n{HEAD}Shadow\n{shadow}\n")


def test_a_namespace_in_shadow(tmp_path: Path) -> None:
    """Nothing is refused there for lack of rights; every right that is asked for must lie in the shadow."""
    policy = shadowed(tmp_path, "namespaces: [team-a, team-c]")
    assert policy.warnings == ()
    assert told(decide(policy, "/pods/team-a")) == (True, "shadow", "pods")
    assert "x-a" in decide(policy, "/pods/team-a").remove
    assert told(decide(policy, "/pods/team-a", "team-a")) == (True, "allowed", "pods")
    assert told(decide(policy, "/pods/team-b")) == (False, "forbidden", "pods")
    assert told(decide(policy, "/both/team-a/team-c")) == (True, "shadow", "both")
    assert told(decide(policy, "/both/team-a/team-b")) == (False, "forbidden", "both")
    assert told(decide(policy, "/both/team-a/team-b", "team-b")) == (False, "forbidden", "both")
    assert told(decide(policy, "/all")) == (False, "forbidden", "all")
    assert told(decide(policy, "/if")) == (False, "condition_false", "conditional")
    assert decide(policy, "/pods/team-a", user="").status == 401


def test_everything_in_shadow(tmp_path: Path) -> None:
    """Rights and conditions refuse nobody; rules that refuse always, missing rules, faults and nobody are as ever."""
    policy = shadowed(tmp_path, "everything: true")
    (warning,) = policy.warnings
    assert "EVERY RULE IS IN SHADOW" in str(warning)
    assert warning.line > 0
    for target in ("/pods/team-b", "/both/team-a/team-b", "/all", "/if"):
        assert decide(policy, target).in_shadow, target
    reasons = [decide(policy, target).reason for target in ("/never", "/nowhere", "/pods//a", "/pods/broken")]
    assert reasons == ["denied_by_rule", "no_rule", "empty_segment", "apiserver_unreachable"]
    assert decide(policy, "/all", user="").status == 401


def test_both_shadows_together(tmp_path: Path) -> None:
    """A rule in shadow below a rule that a shadow covers: what the first would refuse is told."""
    policy = shadowed(tmp_path, "everything: true", BROAD + NEW)
    assert told(decide(policy, "/app/x")) == (True, "shadow", "new")
    assert told(decide(policy, "/app/x", "/new")) == (True, "shadow", "broad")
    assert told(decide(policy, "/app/x", "/new", "/broad")) == (True, "allowed", "broad")


@pytest.mark.parametrize(
    ("shadow", "message"),
    [
        ("everything: false", "exactly one of everything: true and namespaces"),
        ("everything: true\nnamespaces: [a]", "exactly one of"),
        ("namespaces: []", "exactly one of"),
        ("namespaces: [Team_A]", "namespaces[0]"),
        ("everithing: true", "did you mean 'everything'?"),
    ],
)
def test_what_a_shadow_cannot_say(tmp_path: Path, shadow: str, message: str) -> None:
    """A shadow is written in full or not at all."""
    with pytest.raises(ConfigurationError) as raised:
        shadowed(tmp_path, shadow)
    assert message in str(raised.value)
    assert "policy.yaml:" in str(raised.value)
