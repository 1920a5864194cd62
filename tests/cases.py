"""The situation of the security cases: a gateway over a small policy and small RBAC manifests."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from extauthz import policy
from extauthz.access import rbac
from extauthz.decision import Decision, Reason
from extauthz.found import Found
from extauthz.gateway import Gateway
from extauthz.lookup import kfp
from extauthz.lookup.artifact import namespace_of_key
from extauthz.lookup.viewer import namespace_of_token
from extauthz.policy import Policy
from extauthz.request import EMPTY_BODY, Body, Request, read
from extauthz.settings import ResponseSettings
from extauthz.steps import Authenticator, Authorizer, NamespaceLookup
from extauthz.subject import Subject

REPOSITORY = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data"
KEYS = {"artifact": namespace_of_key, "viewer": namespace_of_token}
LOOKUPS = kfp.KINDS
SHIPPED = sorted((REPOSITORY / "policies" / "kubeflow").glob("*.yaml"))
POLICIES = [DATA / "cases" / "policy.yaml", *(file for file in SHIPPED if file.stem != "dashboard")]
"""The cases' policy and the shipped one but for the dashboard, which has the same paths."""
OUR_WORDS = frozenset(Reason) - {Reason.FORBIDDEN, Reason.DENIED_BY_RULE, Reason.SHADOW}
"""Why a decision fell whose words are neither Kubernetes' nor a policy's."""
ALICE = "alice@example.com"
BOB = "bob@example.com"


@dataclass(frozen=True)
class Named:
    """An authenticator that believes one name; an empty one is nobody."""

    user: str
    groups: tuple[str, ...] = ()

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        return Subject.authenticated(self.user, self.groups, authenticator="test") if self.user else None


@dataclass(frozen=True)
class TeamA:
    """A lookup to which every object is team-a's; keys of artifacts tell themselves."""

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002
        owner = namespace_of_key(id) if kind == "artifact_key" else "team-a"
        return Found(owner) if owner else None


TEAM_A = TeamA()


@cache
def load_policy() -> Policy:
    """Return the cases' policy, which is immutable: it is loaded once for all tests."""
    return policy.load(POLICIES, KEYS, LOOKUPS)


def policy_of(tmp_path: Path, rules: str) -> Policy:
    """Load a policy whose rules are given as YAML text."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"apiVersion: extauthz.dev/v1\nkind: Policy\nrules:\n{rules}")
    return policy.load([file], KEYS, LOOKUPS)


def gateway(
    user: str = ALICE,
    *groups: str,
    policy: Policy | None = None,
    authenticator: Authenticator | None = None,
    authorizer: Authorizer | None = None,
    response: ResponseSettings | None = None,
    lookup: NamespaceLookup | None = TEAM_A,
) -> Gateway:
    """Build a gateway for one user."""
    return Gateway(
        policy=policy or load_policy(),
        authenticator=authenticator or Named(user, groups),
        authorizer=authorizer or rbac.RbacAuthorizer(rbac.load([DATA / "cases" / "rbac.yaml"])),
        response=response or ResponseSettings(),
        lookup=lookup,
    )


def request(method: str, target: str, *, body: bytes | Body | None = None, **headers: str) -> Request:
    """Read a request; header names are given with underscores for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, Body) else EMPTY_BODY if body is None else Body(body)
    return read(method=method, target=target, headers=named, body=content)


def decided(decision: Decision | Awaitable[Decision]) -> Decision:
    """Return a decision that must not have had to wait, and that is told in a sentence where the words are ours."""
    assert isinstance(decision, Decision)
    if decision.reason in OUR_WORDS:
        assert is_sentence(decision.message), decision
    return decision


def is_sentence(text: str) -> bool:
    """Whether a message can be shown to people as it is."""
    return text[0].isupper() and text.endswith(".") and not text.isupper()
