"""What a decision is made with: the policy in force, and whoever answers a part of the question.

The steps do not know each other; they are joined here, through small protocols.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from extauthz.found import Found
from extauthz.headers import IdentityHeaders
from extauthz.policy import Policy
from extauthz.request import Request
from extauthz.review import Attributes, Review
from extauthz.settings import ResponseSettings
from extauthz.subject import Subject


class Authenticator(Protocol):
    """Finds out who asks."""

    def authenticate(self, request: Request) -> Subject | Awaitable[Subject | None] | None:
        """Return the subject, or None without a credential. Raises CredentialError, Unavailable."""
        ...


class Authorizer(Protocol):
    """Finds out whether a subject has a right."""

    def review(self, subject: Subject, attributes: Attributes) -> Review | Awaitable[Review]:
        """Return the review. Raises Unavailable."""
        ...


class NamespaceLookup(Protocol):
    """Finds out to which namespace an object belongs that a request names only by its id."""

    def namespace(self, kind: str, id: str, user: str) -> Found | Awaitable[Found | None] | None:  # noqa: A002  # the APIs' own word
        """Return what is known of an object, None where there is none. Raises Unavailable.

        `user` is for whom it is asked, so that nobody can hold up the others.
        An awaitable may be left alone: another fault of the request may end the flow first.
        """
        ...


class InForce:
    """A policy while it decides; it is a ground of all that it decides."""

    __slots__ = ("ended", "policy")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.ended = False

    def holds(self) -> bool:
        return not self.ended


class Steps:
    """The parts of a decision. Replace `policy` to reload it; a decision under way keeps the one it began with."""

    def __init__(
        self,
        *,
        policy: Policy,
        authenticator: Authenticator,
        authorizer: Authorizer,
        response: ResponseSettings,
        lookup: NamespaceLookup | None = None,
        deadline_seconds: float = 1.8,
        together_seconds: float = 1.0,
    ) -> None:
        """`together_seconds` is how long several reviews of one request may be waited for together.

        An allow among them grows as old as that before it counts, so it is the settling time at most.
        """
        self.in_force = InForce(policy)
        self.authenticator = authenticator
        self.authorizer = authorizer
        self.lookup = lookup
        self.identity_headers = IdentityHeaders(response)
        self.deadline_seconds = deadline_seconds
        self.together_seconds = together_seconds

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self.in_force.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self.in_force.ended = True
        self.in_force = InForce(policy)
