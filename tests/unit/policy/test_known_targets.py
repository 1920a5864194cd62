"""What a rule remembers of a target, and what it must not."""

from __future__ import annotations

from pathlib import Path

from extauthz.policy.known import MAX_KNOWN
from extauthz.request import Request, read
from extauthz.review import ResourceAttributes
from tests.cases import ALICE, BOB, Named, decided, gateway, policy_of, request


def on(host: str, method: str) -> Request:
    return read(method=method, target="/r", headers={}, host=host)


BY_TARGET = "- {name: r, match: {path: '/r/{ns}'}, access: [{verb: list, resource: runs, namespace: path:ns}]}\n"
BY_HEADER = (
    "- {name: r, match: {path: '/r/{ns}'}, forbid: ['header:x-as'],"
    " access: [{verb: list, resource: runs, namespace: path:ns}]}\n"
)


def test_what_rests_on_the_target_is_read_once(tmp_path: Path) -> None:
    """The same attributes, not equal ones, are put up again."""
    built = gateway(policy=policy_of(tmp_path, BY_TARGET))
    first, again = (decided(built.decide(request("GET", "/r/team-a"))).reviews[0].attributes for _ in range(2))
    assert first is again
    assert first == ResourceAttributes("list", resource="runs", namespace="team-a")


def test_another_user_is_reviewed_for_himself(tmp_path: Path) -> None:
    """Only the question is remembered, never its answer."""
    rule = (
        "- {name: r, match: {path: '/r/{ns}'}, access:"
        " [{verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: path:ns}]}\n"
    )
    built = gateway(policy=policy_of(tmp_path, rule))
    assert decided(built.decide(request("GET", "/r/team-a"))).allowed
    built.authenticator = Named(BOB)
    assert not decided(built.decide(request("GET", "/r/team-a"))).allowed
    built.authenticator = Named(ALICE)
    assert decided(built.decide(request("GET", "/r/team-a"))).allowed


def test_a_rule_that_reads_a_header_reads_it_each_time(tmp_path: Path) -> None:
    """The same target with another header is another request."""
    built = gateway(policy=policy_of(tmp_path, BY_HEADER))
    assert decided(built.decide(request("GET", "/r/team-a"))).reason != "forbidden_value"
    assert decided(built.decide(request("GET", "/r/team-a", x_as="bob"))).reason == "forbidden_value"


def test_refusals_are_not_remembered_and_memory_is_bounded(tmp_path: Path) -> None:
    """A flood of targets costs no more than the bound."""
    policy = policy_of(tmp_path, BY_TARGET)
    built = gateway(policy=policy)
    assert decided(built.decide(request("GET", "/r/Team_A"))).status == 400
    for number in range(MAX_KNOWN + 10):
        built.decide(request("GET", f"/r/team-{number}"))
    assert len(policy._known) <= MAX_KNOWN
    assert len(policy.routes._known) <= MAX_KNOWN


def test_what_a_stranger_can_choose_at_length_is_not_remembered(tmp_path: Path) -> None:
    """A thousand requests with huge hosts or methods must not fill the memory."""
    policy = policy_of(tmp_path, BY_TARGET)
    built = gateway(policy=policy)
    built.decide(read(method="GET", target="/r/a", headers={}, host="h" * 300))
    built.decide(read(method="X" * 300, target="/r/a", headers={}))
    assert len(policy.routes._known) == 0


def test_a_route_is_remembered_for_its_method_and_host_alone(tmp_path: Path) -> None:
    """The same target with another method or host is another route."""
    rules = "- {name: r, match: {path: /r, methods: [GET], hosts: [a.example]}, allow: public}\n"
    built = gateway(policy=policy_of(tmp_path, rules))
    for _ in range(2):
        assert decided(built.decide(on("a.example", "GET"))).allowed
        assert not decided(built.decide(on("a.example", "POST"))).allowed
        assert not decided(built.decide(on("b.example", "GET"))).allowed
