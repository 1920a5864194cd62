"""Every route, in the name of every tenant, by everybody: the reference and the manifests say who passes.

What is expected comes from the rows and from a plain reading of RBAC; what is decided comes
from the shipped policies and the product's own evaluator.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from extauthz.access import rbac
from extauthz.decision import Decision, Outcome
from extauthz.demo.mesh import MANIFESTS
from extauthz.gateway import Gateway
from extauthz.settings import ResponseSettings
from tests.cases import Named
from tests.policies import reference
from tests.policies.plain_rbac import Cluster
from tests.policies.probe import Objects, Probe, probes
from tests.policies.test_routes import kind_at, shipped

TENANTS = {"team-a": "alice@example.com", "team-b": "bob@example.com", "team-c": "carol@example.com"}
AUTHENTICATED = "system:authenticated"
EDITOR, VIEWER, STRANGER, ADMIN = (f"{name}@example.com" for name in ("dave", "erin", "mallory", "admin"))
PEOPLE: dict[str, tuple[str, tuple[str, ...]]] = {
    **{f"owner of {team}": (user, ()) for team, user in TENANTS.items()},
    **{f"service account of {team}": (f"system:serviceaccount:{team}:default-editor", ()) for team in TENANTS},
    "editor of team-a": (EDITOR, ()),
    "viewer of team-a": (VIEWER, ()),
    "auditor": ("frank@example.com", ("data-auditors",)),
    "stranger": (STRANGER, ()),
    "nobody": ("", ()),
    "administrator": (ADMIN, ()),
}
CLUSTER = Cluster(MANIFESTS)


@cache
def authorizer() -> rbac.RbacAuthorizer:
    """Return the product's evaluator over the demo's manifests."""
    return rbac.RbacAuthorizer(rbac.load([MANIFESTS]))


@cache
def gateway(placement: str, who: str) -> Gateway:
    """Return the gateway as one of the people meets it."""
    return Gateway(
        policy=shipped(placement),
        authenticator=Named(*PEOPLE[who]),
        authorizer=authorizer(),
        response=ResponseSettings(),
        lookup=Objects(),
    )


@cache
def everything(tenant: str) -> tuple[Probe, ...]:
    """Return a request for every row, placement and method, about one tenant."""
    return tuple(probe for row in reference.rows() if row.kind != "nowhere" for probe in probes(row, tenant))


def expected(probe: Probe, who: str) -> Outcome:
    """What the reference and the manifests say."""
    user, groups = PEOPLE[who]
    kind = kind_at(probe)
    if kind == "public":
        return Outcome.ALLOW
    if kind == "refused":
        return Outcome.DENY
    if not user:
        return Outcome.UNAUTHENTICATED
    granted = all(CLUSTER.allows(user, (*groups, AUTHENTICATED), right) for right in probe.asks)
    return Outcome.ALLOW if kind == "authenticated" or granted else Outcome.DENY


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize("tenant", TENANTS)
def test_everybody_passes_exactly_where_the_manifests_let_him(tenant: str, who: str) -> None:
    """Every decision is the expected one, for every row of both references."""
    wrong = []
    for probe in everything(tenant):
        decision = gateway(probe.placement, who).decide(probe.request)
        assert isinstance(decision, Decision)
        if decision.outcome is not expected(probe, who):
            wrong.append((str(probe), decision.outcome, decision.message))
    assert wrong == []


def test_the_matrix_is_no_row_of_refusals() -> None:
    """Owners pass on most routes of their own namespace and on none of another's that asks for a right there."""
    count = Counter(
        (who, expected(probe, who) is Outcome.ALLOW)
        for who in ("owner of team-a", "owner of team-b")
        for probe in everything("team-a")
        if probe.row.kind == "access" and any(right.namespace == "team-a" for right in probe.asks)
    )
    assert count["owner of team-a", True] > 4 * count["owner of team-a", False]
    assert count["owner of team-b", True] == 0
