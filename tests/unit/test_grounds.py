"""What a decision rests on beside its request: lookups and claims, told to whoever explains it or gives it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from extauthz.basis import ALWAYS, Basis, NotedHeaders, joined
from extauthz.decision import Outcome
from extauthz.found import Found
from extauthz.policy import Rule
from extauthz.request import Request, read
from extauthz.review import Attributes, ResourceAttributes, Review
from extauthz.steps import InForce
from extauthz.subject import Subject
from tests.cases import ALICE, decided, gateway, is_sentence, load_policy, policy_of, request


def test_whoever_looks_at_all_headers_leaves_nothing_to_rest_on() -> None:
    """Any further header could change the answer."""
    for look in (list, len, dict, lambda headers: "".join(headers.values())):
        headers = NotedHeaders({"a": "1", "b": "2"})
        assert headers["a"] == "1"
        assert headers.get("c") is None
        assert "d" not in headers
        assert headers.sent(frozenset({"b", "e"})) == {"b"}
        basis = headers.basis((ALWAYS,))
        assert basis == Basis(frozenset("acd"), frozenset({frozenset("be")}), (ALWAYS,))
        assert basis.holds()
        look(headers)
        assert headers.basis((ALWAYS,)) is None


def test_a_header_that_was_not_sent_is_named() -> None:
    """As by any mapping."""
    with pytest.raises(KeyError, match="x-missing"):
        NotedHeaders({})["x-missing"]


def test_only_grounds_that_can_change_are_kept() -> None:
    """One that is not known leaves none."""
    ground = InForce(load_policy())
    assert joined([ALWAYS, ground, ALWAYS]) == (ground,)
    assert joined([ALWAYS]) == ()
    assert joined([ground, None]) is None


@dataclass
class Asked:
    """A lookup that knows every object, and remembers for whom it was asked."""

    users: list[str] = field(default_factory=list)

    def namespace(self, kind: str, id: str, user: str) -> Found:  # noqa: A002
        self.users.append(user)
        return Found("team-a")


LOOKED_UP = (
    "- name: run\n  match: {path: '/runs/{id}'}\n  access:\n"
    "  - {verb: get, resource: runs, namespace: 'lookup:run:path:id', name: 'claim:team'}\n"
)


@dataclass
class Granting:
    """An authorizer whose answers hold for ever."""

    allowed: bool = True

    def review(self, subject: Subject, attributes: Attributes) -> Review:
        return Review(attributes, self.allowed, ground=ALWAYS)


@dataclass
class Holding:
    """An authenticator whose answers hold for ever."""

    claims: dict[str, str] = field(default_factory=dict)

    def authenticate(self, request: Request) -> Subject:
        return Subject.authenticated(ALICE, claims=self.claims, ground=ALWAYS)


def noted(target: str) -> Request:
    """Read a request in the way of an edge that may give the answer again."""
    return read(method="GET", target=target, headers=NotedHeaders({}))


def test_what_rests_on_a_lookup_is_decided_anew_each_time(tmp_path: Path) -> None:
    """Nobody tells when an object changes hands, so that an allow has nothing that it could rest on."""
    policy = policy_of(
        tmp_path,
        LOOKED_UP.replace("claim:team", "path:id")
        + "- {name: app, match: {path: '/app/{ns}'}, access: [{verb: get, resource: pods, namespace: path:ns}]}\n",
    )
    built = gateway(policy=policy, authenticator=Holding(), authorizer=Granting())
    looked_up, told = (decided(built.decide(noted(target))) for target in ("/runs/1", "/app/team-a"))
    assert looked_up.allowed
    assert looked_up.basis is None
    assert told.basis is not None
    assert built.repeat(told, "", lambda: noted("/app/team-a"))
    assert not built.repeat(looked_up, "", lambda: noted("/runs/1"))


def test_what_is_open_to_everybody_who_is_logged_in_is_told_as_a_right_that_lasts(tmp_path: Path) -> None:
    """The log says which, and nothing can take it away but another policy."""
    rule = (
        "- name: list\n  match: {path: /pipelines}\n  access:\n"
        "  - {verb: list, resource: pipelines, namespace: query:namespace, absentNamespace: authenticated}\n"
    )
    built = gateway(policy=policy_of(tmp_path, rule), authenticator=Holding(), authorizer=Granting())
    decision = decided(built.decide(noted("/pipelines")))
    right = ResourceAttributes("list", resource="pipelines")
    assert decision.reviews == (Review(right, allowed=True, reason="open to everybody who is logged in"),)
    assert decision.basis is not None
    assert built.repeat(decision, "", lambda: noted("/pipelines"))
    built.policy = built.policy
    assert not built.repeat(decision, "", lambda: noted("/pipelines"))


def test_what_passes_in_shadow_is_decided_anew_each_time(tmp_path: Path) -> None:
    """Each is told in the log."""
    rule = (
        "- {name: pods, match: {path: '/pods/{ns}'}, access: [{verb: get, resource: pods, namespace: path:ns}]}\n"
        "---\napiVersion: extauthz.dev/v1\nkind: Shadow\nnamespaces: [team-a]\n"
    )
    built = gateway(policy=policy_of(tmp_path, rule), authenticator=Holding(), authorizer=Granting(allowed=False))
    decision = decided(built.decide(noted("/pods/team-a")))
    assert decision.in_shadow
    assert decision.basis is None


def test_who_is_logged_in_may_be_told_apart_by_claims(tmp_path: Path) -> None:
    """What a rule for everybody requires of a token is read from the token; a refusal says who was refused."""
    rule = (
        "- name: home\n  match: {path: /home}\n  allow: authenticated\n"
        "  require: [{source: 'claim:team', oneOf: [a]}]\n"
    )
    ours, theirs = (
        decided(gateway(policy=policy_of(tmp_path, rule), authenticator=Holding({"team": team})).decide(noted("/home")))
        for team in ("a", "b")
    )
    assert ours.allowed
    assert (theirs.allowed, theirs.subject, theirs.rule) == (False, ours.subject, ours.rule)


def test_a_lookup_is_told_for_whom_it_is(tmp_path: Path) -> None:
    """So that no user can hold up the others; who explains a rule asks for nobody."""
    asked = Asked()
    built = gateway(policy=policy_of(tmp_path, LOOKED_UP), authenticator=Holding({"team": "t"}), lookup=asked)
    decision = decided(built.decide(request("GET", "/runs/1")))
    assert asked.users == [ALICE]
    rule = built.policy.find(request("GET", "/runs/1"))
    assert isinstance(rule, Rule)
    values = built.values(rule, request("GET", "/runs/1"), decision.subject)
    assert {found["source"]: found["value"] for found in values} == {
        "lookup:run:path:id": "team-a",
        "claim:team": "t",
    }
    assert built.values_beside_target(rule, request("GET", "/runs/1"), decision) == {
        "lookup:run:path:id": "team-a",
        "claim:team": "t",
    }
    assert asked.users == [ALICE, "", ""]


def test_an_owner_that_nobody_can_be_asked_for_is_no_allow(tmp_path: Path) -> None:
    """A rule that looks up needs a lookup."""
    built = gateway(policy=policy_of(tmp_path, LOOKED_UP), authenticator=Holding({"team": "t"}), lookup=None)
    decision = decided(built.decide(request("GET", "/runs/1")))
    assert (decision.outcome, decision.status, decision.reason) == (Outcome.ERROR, 503, "lookup_missing")
    assert is_sentence(decision.message)
