"""The shipped policies against the reference: every known route of Kubeflow, and what it asks for."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from functools import cache

import pytest

from extauthz.decision import Decision, Outcome, Reason
from extauthz.gateway import Gateway
from extauthz.policy import Policy, load
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes, Review
from extauthz.settings import ResponseSettings
from extauthz.subject import Subject
from tests.cases import KEYS, LOOKUPS, REPOSITORY, Named
from tests.policies import reference
from tests.policies.probe import Objects, Probe, probes, with_value
from tests.policies.reference import Row

TENANT, OTHER = "team-a", "team-b"
OUTSIDE = [row for row in reference.rows() if row.kind == "nowhere"]
INSIDE = [row for row in reference.rows() if row.kind != "nowhere"]


class Everything:
    """An authorizer that grants every right."""

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        return Review(attributes, True)


@cache
def shipped(placement: str) -> Policy:
    """Return the shipped policy at a placement."""
    return load([REPOSITORY / "policies" / "kubeflow"], KEYS, LOOKUPS, placement=placement)


@cache
def gateway(placement: str, user: str = "alice") -> Gateway:
    """Return a gateway where everybody has every right."""
    return Gateway(
        policy=shipped(placement),
        authenticator=Named(user),
        authorizer=Everything(),
        response=ResponseSettings(),
        lookup=Objects(),
    )


def decide(probe: Probe, user: str = "alice") -> Decision:
    """Decide a probe, with every right granted."""
    decision = gateway(probe.placement, user).decide(probe.request)
    assert isinstance(decision, Decision)
    return decision


def asked(decision: Decision) -> frozenset[ResourceAttributes]:
    """Return the rights that were asked for, without API versions, which no role looks at."""
    found = [review.attributes for review in decision.reviews]
    assert not any(isinstance(attributes, NonResourceAttributes) for attributes in found)
    return frozenset(
        replace(attributes, version="") for attributes in found if isinstance(attributes, ResourceAttributes)
    )


def refused(probe: Probe) -> bool:
    """Whether nobody passes, whatever rights he has."""
    decision = decide(probe)
    return decision.outcome is Outcome.DENY and decision.reason in (Reason.DENIED_BY_RULE, Reason.NO_RULE)


def kind_at(probe: Probe) -> str:
    """What must become of a probe: what is internal is refused wherever users come in."""
    internal = probe.row.kind == "internal" and probe.placement != "ml-pipeline"
    return "refused" if internal else probe.row.kind


def ids(rows: list[Row]) -> list[str]:
    return [row.key for row in rows]


@pytest.mark.parametrize("row", INSIDE, ids=ids(INSIDE))
def test_every_route_is_decided_as_the_reference_says(row: Row) -> None:
    """At every placement and by every method: the same kind of decision, and exactly the same rights."""
    found = list(probes(row, TENANT))
    assert found, "a route that no placement guards"
    for probe in found:
        decision, kind = decide(probe), kind_at(probe)
        if kind == "refused":
            assert refused(probe), (str(probe), decision)
            continue
        assert decision.allowed, (str(probe), decision.message)
        assert decision.rule is not None
        if kind in ("authenticated", "public"):
            assert decision.reason == kind, str(probe)
            assert decide(probe, "").allowed is (kind == "public")
        else:
            assert asked(decision) == probe.asks, str(probe)
            assert not decide(probe, "").allowed
            versions = {getattr(review.attributes, "version", "") for review in decision.reviews}
            assert not row.version or row.version in versions


def test_every_refusal_is_by_a_rule() -> None:
    """None is left to the default."""
    found = [probe for row in INSIDE for probe in probes(row, TENANT) if kind_at(probe) == "refused"]
    by_default = {probe.row.key for probe in found if not decide(probe).rule}
    assert by_default == set()


ASKING = [row for row in INSIDE if row.kind == "access" and any(right.namespace for right in row.rights)]


@pytest.mark.parametrize("row", ASKING, ids=ids(ASKING))
def test_another_namespace_beside_the_row_s_own_changes_nothing_or_is_refused(row: Row) -> None:
    """A client's `namespace=` never wins over where the reference says the namespace is."""
    for probe in probes(row, TENANT):
        for name in ("query:namespace", "query:ns", "query:podnamespace", "body:namespace"):
            if name in (right.namespace for right in row.rights):
                continue
            request = with_value(probe, TENANT, name, OTHER)
            decision = gateway(probe.placement).decide(request)
            assert isinstance(decision, Decision)
            assert not decision.allowed or asked(decision) == probe.asks, (str(probe), name)
            assert OTHER not in {right.namespace for right in asked(decision)}


AGREEING = [row for row in INSIDE if row.kind == "access" and row.agree]


@pytest.mark.parametrize("row", AGREEING, ids=ids(AGREEING))
def test_a_namespace_that_must_agree(row: Row) -> None:
    """Where the request states the namespace twice, two different ones are refused."""
    for probe in probes(row, TENANT):
        for place in row.agree:
            decision = gateway(probe.placement).decide(with_value(probe, TENANT, place, OTHER))
            assert isinstance(decision, Decision)
            assert not decision.allowed


def test_every_deviation_is_about_a_row() -> None:
    """A reason for a row that does not exist is no reason."""
    rows, reasons = reference.undeviated(), (*reference.deviations(), *reference.examples())
    assert [item["rows"] for item in reasons if not any(reference.applies(item, row) for row in rows)] == []


def test_examples_change_nothing_that_is_asked_for() -> None:
    """They only complete requests; whatever changes a right or a decision is a deviation."""
    for item in reference.examples():
        assert item.keys() <= {"rows", "reason", "path", "method", "given"}


def test_what_is_outside_has_a_reason() -> None:
    """Rows that no placement guards are few, and each says why."""
    assert all(row.reasons for row in OUTSIDE), [row.key for row in OUTSIDE]


def test_the_reference_is_whole() -> None:
    """No row got lost on the way here."""
    keys = {row.key for row in reference.undeviated()}
    assert sum(row.surface in ("grpc", "grpc-next") for row in reference.rows()) == 94
    assert len(keys) >= 302 + 142
