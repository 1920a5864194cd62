"""What the mesh vouches for: only under mTLS, only from named principals, never from a header."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from extauthz.basis import ALWAYS
from extauthz.errors import CredentialError
from extauthz.identity import Authenticators
from extauthz.settings.identity import Identity
from extauthz.subject import Subject
from tests.issuer import asking

GATEWAY = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"
EDITOR = "spiffe://cluster.local/ns/team-a/sa/default-editor"
USERS = ["spiffe://cluster.local/ns/*/sa/default-editor", "spiffe://cluster.local/ns/kubeflow/sa/*"]


def ask(settings: dict[str, Any], peer: str, **headers: str) -> Subject | None:
    """Authenticate a request of a peer; header names have underscores for dashes."""
    identity = Identity.model_validate(settings)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = Authenticators(identity, resolve=lambda path: path).authenticate(asking(named, peer=peer))
    assert answer is None or isinstance(answer, Subject)
    return answer


@pytest.mark.parametrize(
    ("peer", "user"),
    [
        (EDITOR, "system:serviceaccount:team-a:default-editor"),
        ("spiffe://cluster.local/ns/kubeflow/sa/katib-ui", "system:serviceaccount:kubeflow:katib-ui"),
        ("spiffe://cluster.local/ns/kubeflow/sa/a.b", "system:serviceaccount:kubeflow:a.b"),
        (GATEWAY, None),
        ("spiffe://cluster.local/ns/team-a/sa/default-viewer", None),
        ("spiffe://other.domain/ns/team-a/sa/default-editor", None),
        ("spiffe://cluster.local/ns/team-a/sa/default-editor/x", None),
        ("spiffe://cluster.local/ns/team-a/sa/default-editor ", None),
        ("spiffe://cluster.local/ns/team-a/sa/default-editor\n", None),
        ("spiffe://cluster.local/ns/*/sa/default-editor", None),
        ("spiffe://cluster.local/ns/kubeflow/sa/*", None),
        ("spiffe://cluster.local/ns/kubeflow/sa/-a", None),
        ("spiffe://cluster.local/ns/kubeflow/sa/..", None),
        ("spiffe://cluster.local/ns/-/sa/default-editor", None),
        ("spiffe://cluster.local/ns//sa/default-editor", None),
        ("SPIFFE://cluster.local/ns/team-a/sa/default-editor", None),
        (f"{EDITOR},{EDITOR}", None),
        ("cluster.local/ns/team-a/sa/default-editor", None),
        ("CN=default-editor", None),
        ("", None),
    ],
)
def test_a_named_principal_is_its_service_account(peer: str, user: str | None) -> None:
    """Anybody else, and anybody without mTLS, is nobody."""
    subject = ask({"peer": {"principals": USERS}}, peer)
    assert (subject.user if subject else None) == user
    if subject:
        namespace = subject.user.split(":")[2]
        groups = {"system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"}
        assert set(subject.groups) == groups
        assert subject.authenticator == "peer"
        assert subject.ground is ALWAYS  # Envoy tells the peer anew with each request


def test_the_certificate_header_is_never_read() -> None:
    """Its first element is whatever the client wrote."""
    forged = f"By=x;URI={EDITOR}"
    assert ask({"peer": {"principals": USERS}}, "", x_forwarded_client_cert=forged) is None
    assert ask({"peer": {"principals": USERS}}, GATEWAY, x_forwarded_client_cert=forged) is None


HEADER = {"header": {"principals": [GATEWAY]}}


def test_a_trusted_hop_names_the_user() -> None:
    """Its reserved groups are dropped all the same."""
    subject = ask(HEADER, GATEWAY, kubeflow_userid="alice@example.com", kubeflow_groups="team,system:masters")
    assert subject == Subject.authenticated("alice@example.com", ("team",))
    assert subject is not None
    assert subject.authenticator == "header"
    assert subject.ground is ALWAYS


@pytest.mark.parametrize("peer", ["", EDITOR, GATEWAY + "x", GATEWAY.upper(), f"{GATEWAY},{EDITOR}"])
def test_nobody_else_may_name_a_user(peer: str) -> None:
    """The header of any other caller is as good as none."""
    assert ask(HEADER, peer, kubeflow_userid="admin@example.com") is None


def test_a_hop_that_names_nobody_is_nobody() -> None:
    """The hop itself is no user."""
    assert ask(HEADER, GATEWAY) is None
    assert ask(HEADER, GATEWAY, kubeflow_groups="team") is None


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("", ""),
        (" alice", ""),
        ("alice,admin", ""),
        ("system:admin", ""),
        ("system:serviceaccount:kubeflow:x", ""),
        ("al\x00ice", ""),
        ("a" * 1025, ""),
        ("alice", "a,,b"),
        ("alice", "a, b"),
        ("alice", ",".join(["g"] * 1025)),
    ],
)
def test_what_is_not_one_user_with_a_list_of_groups_is_refused(user: str, groups: str) -> None:
    """Two headers of one name arrive joined by a comma: somebody added one."""
    with pytest.raises(CredentialError):
        ask(HEADER, GATEWAY, kubeflow_userid=user, kubeflow_groups=groups)


@pytest.mark.parametrize(
    ("groups_format", "user", "groups", "message"),
    [
        ("commas", "a,b", "", "header kubeflow-userid does not name one user"),
        ("commas", "system:a", "", "header kubeflow-userid does not name one user"),
        ("commas", "", "", "claim kubeflow-userid must be text that is not empty and has no space at its ends"),
        ("commas", "a", "g\0", "claim kubeflow-groups holds a control character"),
        ("commas", "a", "g," * 1024 + "g", "header kubeflow-groups lists more than 1024 groups"),
        ("base64-json", "a", "e30", "header kubeflow-groups is not a base64url JSON list"),
        ("base64-json", "a", "%", "header kubeflow-groups is not a base64url JSON list"),
    ],
)
def test_the_header_at_fault_is_named(groups_format: str, user: str, groups: str, message: str) -> None:
    settings = {"header": {"principals": [GATEWAY], "groupsFormat": groups_format}}
    with pytest.raises(CredentialError) as refused:
        ask(settings, GATEWAY, kubeflow_userid=user, kubeflow_groups=groups)
    assert refused.value.reason == "claim_invalid"
    assert refused.value.message == message


def test_as_many_groups_as_a_token_may_have_are_read() -> None:
    """One more is refused."""
    groups = [f"g{number}" for number in range(1024)]
    subject = ask(HEADER, GATEWAY, kubeflow_userid="alice", kubeflow_groups=",".join(groups))
    assert subject == Subject.authenticated("alice", tuple(groups))


@pytest.mark.parametrize("claim", [{}, "team", 7, None, [7], ["a\0"], [["a"]]])
def test_a_groups_header_that_is_no_list_of_names_is_refused(claim: Any) -> None:
    """Whatever JSON it holds."""
    settings = {"header": {"principals": [GATEWAY], "groupsFormat": "base64-json"}}
    encoded = base64.urlsafe_b64encode(json.dumps(claim).encode()).decode()
    with pytest.raises(CredentialError):
        ask(settings, GATEWAY, kubeflow_userid="alice", kubeflow_groups=encoded)


def test_groups_nested_without_end_are_refused() -> None:
    settings = {"header": {"principals": [GATEWAY], "groupsFormat": "base64-json"}}
    with pytest.raises(CredentialError):
        ask(settings, GATEWAY, kubeflow_userid="alice", kubeflow_groups=base64.b64encode(b"[" * 10_000).decode())


def test_groups_as_envoy_writes_a_list_claim() -> None:
    """jwt_authn gives base64url of the claim's JSON, with and without padding, whatever characters it takes."""
    settings = {"header": {"principals": [GATEWAY], "groupsFormat": "base64-json"}}
    written = ""
    for group in ("ü?>", "aü?>", "aaü?>"):
        encoded = base64.urlsafe_b64encode(json.dumps(["team-a", group], ensure_ascii=False).encode()).decode()
        for value in (encoded, encoded.rstrip("=")):
            subject = ask(settings, GATEWAY, kubeflow_userid="alice", kubeflow_groups=value)
            assert subject == Subject.authenticated("alice", ("team-a", group))
            written += value
    assert {"-", "_", "="} < set(written)
    for value in ("a,b", "%%%", "e30", "WzFd", "W10K!", "WyJh"):
        with pytest.raises(CredentialError):
            ask(settings, GATEWAY, kubeflow_userid="alice", kubeflow_groups=value)


def test_groups_can_be_left_unread() -> None:
    """Without a header for them there are none."""
    settings = {"header": {"principals": [GATEWAY], "groupsHeader": None}}
    assert ask(settings, GATEWAY, kubeflow_userid="alice", kubeflow_groups="team") == Subject.authenticated("alice")


def test_the_first_of_the_order_decides_between_hops() -> None:
    """A user whom a hop names comes before the hop's own name, or after it, as the settings say."""
    peers = ["spiffe://cluster.local/ns/kubeflow/sa/*"]
    hop = "spiffe://cluster.local/ns/istio-system/sa/hop"
    settings = {"header": {"principals": [hop]}, "peer": {"principals": peers}, "order": ["peer", "header"]}
    assert ask(settings, hop, kubeflow_userid="alice") == Subject.authenticated("alice")


def test_what_trusts_a_hop_is_loud(caplog: pytest.LogCaptureFixture) -> None:
    """An operator sees at every start who may name users."""
    with caplog.at_level(logging.WARNING):
        ask({**HEADER, "peer": {"principals": USERS}}, "")
    assert caplog.messages == [
        f"identity.header is on: these mesh principals may name any user: {GATEWAY}",
        f"identity.peer is on: these mesh principals are believed without a token: {', '.join(USERS)}",
    ]
