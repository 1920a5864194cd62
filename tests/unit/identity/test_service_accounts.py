"""A cluster's own tokens, verified by its keys: the same subject that a TokenReview names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from extauthz.errors import CredentialError
from extauthz.identity.serviceaccount import groups_of
from tests.issuer import ABSENT, NOW, Issuer, bearer
from tests.unit.identity.conftest import Desk

PRIVATE: dict[str, Any] = {
    "namespace": "team-a",
    "node": {"name": "node-1", "uid": "n-1"},
    "pod": {"name": "train-0", "uid": "p-1"},
    "serviceaccount": {"name": "default-editor", "uid": "s-1"},
    "warnafter": 1_800_003_607,
}
USER = "system:serviceaccount:team-a:default-editor"


def token(issuer: Issuer, **changes: Any) -> dict[str, str]:
    """Return the headers of a pod's token."""
    return bearer(issuer.token(**{"sub": USER, "jti": "j-1", "kubernetes.io": PRIVATE, **changes}))


@pytest.fixture
def cluster(opened: Callable[..., Desk]) -> Desk:
    return opened(serviceAccounts=True)


async def test_a_pods_token_names_its_service_account(cluster: Desk, issuer: Issuer) -> None:
    """User, groups, uid and extra are those of kube-apiserver."""
    subject = await cluster.ask(token(issuer))
    assert subject is not None
    assert subject.user == USER
    assert subject.groups == ("system:authenticated", "system:serviceaccounts", "system:serviceaccounts:team-a")
    assert subject.uid == "s-1"
    assert subject.authenticator == "jwt:https://idp.example"
    assert subject.expires == NOW + 3600
    assert subject.extra == (
        ("authentication.kubernetes.io/credential-id", ("JTI=j-1",)),
        ("authentication.kubernetes.io/node-name", ("node-1",)),
        ("authentication.kubernetes.io/node-uid", ("n-1",)),
        ("authentication.kubernetes.io/pod-name", ("train-0",)),
        ("authentication.kubernetes.io/pod-uid", ("p-1",)),
    )
    assert subject.claims["kubernetes.io"]["namespace"] == "team-a"


async def test_a_token_that_is_bound_to_no_pod_has_no_extra(cluster: Desk, issuer: Issuer) -> None:
    """As `kubectl create token` makes them, on a cluster that gives no token ids."""
    private = {"namespace": "team-a", "serviceaccount": {"name": "default-editor", "uid": "s-1"}}
    subject = await cluster.ask(token(issuer, **{"jti": ABSENT, "kubernetes.io": private}))
    assert subject is not None
    assert subject.extra == ()


async def test_its_groups_claim_is_nothing(cluster: Desk, issuer: Issuer) -> None:
    """A cluster's token has none, and none is believed."""
    subject = await cluster.ask(token(issuer, groups=["system:masters"]))
    assert subject is not None
    assert "system:masters" not in subject.groups


@pytest.mark.parametrize(
    "changes",
    [
        {"kubernetes.io": ABSENT},
        {"kubernetes.io": "team-a"},
        {"kubernetes.io": {}},
        {"kubernetes.io": {**PRIVATE, "namespace": "team-b"}},
        {"kubernetes.io": {**PRIVATE, "namespace": 1}},
        {"kubernetes.io": {**PRIVATE, "namespace": "team-a:default-editor"}},
        {"kubernetes.io": {**PRIVATE, "namespace": "Team-a"}},
        {"kubernetes.io": {**PRIVATE, "namespace": "team-a\n"}},
        {"kubernetes.io": {**PRIVATE, "namespace": "a" * 64}},
        {"kubernetes.io": {**PRIVATE, "serviceaccount": {"name": "admin"}}},
        {"kubernetes.io": {**PRIVATE, "serviceaccount": {}}},
        {"kubernetes.io": {**PRIVATE, "serviceaccount": []}},
        {"kubernetes.io": {**PRIVATE, "serviceaccount": {"name": "default-editor", "uid": 1}}},
        {"kubernetes.io": {**PRIVATE, "pod": {"name": "a\nb"}}},
        {"kubernetes.io": {**PRIVATE, "pod": {"name": "a" * 1025}}},
        {"kubernetes.io": {**PRIVATE, "node": "node-1"}},
        {"jti": 7},
        {"sub": "system:serviceaccount:team-a:admin"},
        {"sub": "alice"},
        {"sub": ABSENT},
        {"sub": None},
    ],
)
async def test_what_does_not_name_one_service_account_is_refused(
    cluster: Desk, issuer: Issuer, changes: dict[str, Any]
) -> None:
    """`sub` and the private claim must agree, and hold names that Kubernetes admits."""
    assert await cluster.fault(token(issuer, **changes)) in ("claim_invalid", "token_malformed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kubernetes.io": []}, "claim kubernetes.io is not an object"),
        ({"kubernetes.io": {**PRIVATE, "serviceaccount": []}}, "claim serviceaccount is not an object"),
        ({"kubernetes.io": {**PRIVATE, "pod": []}}, "claim pod is not an object"),
        ({"kubernetes.io": {**PRIVATE, "node": []}}, "claim node is not an object"),
        ({"kubernetes.io": {}}, "claim kubernetes.io does not name a ServiceAccount"),
        ({"sub": "alice"}, "claims sub and kubernetes.io name different subjects"),
        ({"jti": "j\n"}, "claim jti is not printable text"),
        ({"kubernetes.io": {**PRIVATE, "node": {"name": 7}}}, "claim name is not printable text"),
        ({"kubernetes.io": {**PRIVATE, "node": {"uid": 7}}}, "claim uid is not printable text"),
        ({"kubernetes.io": {**PRIVATE, "pod": {"uid": 7}}}, "claim uid is not printable text"),
    ],
)
async def test_it_is_told_which_claim_is_at_fault(
    cluster: Desk, issuer: Issuer, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CredentialError) as refused:
        await cluster.ask(token(issuer, **changes))
    assert refused.value.message == message


async def test_names_and_ids_at_their_bounds_are_good(cluster: Desk, issuer: Issuer) -> None:
    """63 bytes for a namespace, 253 for a name, 1024 for an id."""
    namespace, name, uid = "n" * 63, "a" * 253, "u" * 1024
    private = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
    claims = {"sub": f"system:serviceaccount:{namespace}:{name}", "kubernetes.io": private}
    subject = await cluster.ask(token(issuer, **claims))
    assert subject is not None
    assert (subject.user, subject.uid) == (claims["sub"], uid)


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        ("Team-a", "default"),
        ("team-a:x", "default"),
        ("team-a\n", "default"),
        ("-", "default"),
        ("n" * 64, "default"),
        ("team.a", "default"),
        ("", "default"),
        ("team-a", ""),
        ("team-a", "a" * 254),
        ("team-a", "a:b"),
        ("team-a", "a/b"),
        ("team-a", "a..b"),
        ("team-a", "Default"),
    ],
)
async def test_names_that_kubernetes_does_not_admit_are_refused(
    cluster: Desk, issuer: Issuer, namespace: str, name: str
) -> None:
    """Also where `sub` and the private claim agree on them."""
    private = {"namespace": namespace, "serviceaccount": {"name": name}}
    claims = {"sub": f"system:serviceaccount:{namespace}:{name}", "kubernetes.io": private}
    assert await cluster.fault(token(issuer, **claims)) == "claim_invalid"


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("system:serviceaccount:team-a:default", ("system:serviceaccounts", "system:serviceaccounts:team-a")),
        ("system:serviceaccount:team-a:a.b", ("system:serviceaccounts", "system:serviceaccounts:team-a")),
        ("alice", ()),
        ("", ()),
        ("system:admin", ()),
        ("system:serviceaccount", ()),
        ("system:serviceaccount:team-a", ()),
        ("system:serviceaccount:team-a:", ()),
        ("system:serviceaccount::default", ()),
        ("system:serviceaccount:team-a:default:x", ()),
        ("system:serviceaccount:Team-a:default", ()),
        ("system:serviceAccount:team-a:default", ()),
        ("System:serviceaccount:team-a:default", ()),
        ("oidc:serviceaccount:team-a:default", ()),
        ("system:node:team-a:default", ()),
        ("serviceaccount:team-a:default", ()),
    ],
)
def test_a_user_name_has_groups_where_kubernetes_takes_it_for_a_service_accounts(
    user: str, groups: tuple[str, ...]
) -> None:
    """As it does when somebody impersonates one: exactly a namespace and a name, both admitted."""
    assert groups_of(user) == groups


async def test_no_other_issuer_names_a_service_account(desk: Desk, issuer: Issuer) -> None:
    """Only the cluster's own issuer is believed for `system:` users."""
    assert await desk.fault(token(issuer)) == "claim_invalid"


async def test_a_trusted_issuers_system_groups_are_kept(opened: Callable[..., Desk], issuer: Issuer) -> None:
    """Only where the settings say so, and its users still cannot be Kubernetes' own."""
    desk = opened(claims={"groups": "groups"}, trustSystemGroups=True)
    subject = await desk.ask(bearer(issuer.token(groups=["system:masters", "team"])))
    assert subject is not None
    assert subject.groups == ("system:authenticated", "system:masters", "team")
    assert await desk.fault(bearer(issuer.token(sub="system:admin"))) == "claim_invalid"
