"""What is answered, and why: the one value that every edge, command and log shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from extauthz.basis import Basis
from extauthz.errors import CredentialError, ExtauthzError, Refused, Unavailable
from extauthz.review import MissingRight, NonResourceAttributes, Review
from extauthz.subject import Subject


class Outcome(StrEnum):
    """The four ways a check can end. Only `allow` lets a request pass."""

    ALLOW = "allow"
    DENY = "deny"
    UNAUTHENTICATED = "unauthenticated"
    ERROR = "error"


class Reason(StrEnum):
    """Why a decision fell, where the request itself was readable.

    The reasons of unreadable requests are `extauthz.request.faults.Fault`; those of bad
    credentials come with the `CredentialError` that names them.
    """

    PUBLIC = "public"
    AUTHENTICATED = "authenticated"
    ALLOWED = "allowed"
    SHADOW = "shadow"
    FORBIDDEN = "forbidden"
    CONDITION_FALSE = "condition_false"
    DENIED_BY_RULE = "denied_by_rule"
    NO_RULE = "no_rule"
    NO_CREDENTIAL = "no_credential"
    DEADLINE = "deadline_exceeded"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class RuleRef:
    """Where the deciding rule stands."""

    name: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.name} ({self.file}:{self.line})"


# Not frozen only because that would cost two microseconds a check.
@dataclass(slots=True)
class Decision:
    """The answer to one request.

    `status` is the HTTP status the client sees (200 when allowed). `headers` are set on
    the request towards the upstream, overwriting the client's; `remove` are taken off it;
    no name is in both. `cookies` are `set-cookie` values for the client, `login` is the path
    where a browser can log in. `message` and `missing` may be shown to the caller.
    """

    outcome: Outcome
    status: int
    reason: str
    message: str
    rule: RuleRef | None = None
    subject: Subject | None = None
    reviews: tuple[Review, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    retry_after: int = 0
    login: str = ""
    basis: Basis | None = None
    """What an allow rests on, where that is known."""
    missing: MissingRight | None = None

    @property
    def cookies(self) -> tuple[str, ...]:
        return self.subject.set_cookies if self.subject else ()

    @property
    def in_shadow(self) -> bool:
        """Whether the request would have been refused, were not its rule or namespace in shadow."""
        return self.reason == Reason.SHADOW

    @property
    def allowed(self) -> bool:
        return self.outcome is Outcome.ALLOW

    def shown_headers(self) -> list[tuple[str, str]]:
        """Return `headers` for people and logs, without secrets."""
        return [(name, "(secret)" if name == "authorization" else value) for name, value in self.headers]

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON form, without secrets; a removed header has the value `null`."""
        headers: dict[str, str | None] = dict(self.shown_headers())
        headers.update(dict.fromkeys(self.remove))
        return {
            "outcome": str(self.outcome),
            "status": self.status,
            "reason": str(self.reason),
            "message": self.message,
            "rule": asdict(self.rule) if self.rule else None,
            "identity": _identity(self.subject) if self.subject else None,
            "reviews": [_review(review) for review in self.reviews],
            "headers": headers,
        }


def failed(error: ExtauthzError, *, rule: RuleRef | None = None, subject: Subject | None = None) -> Decision:
    """Return the decision that an error becomes: the one table from errors to outcomes."""
    if isinstance(error, Refused):
        return Decision(Outcome.DENY, error.status, error.reason, error.message, rule, subject)
    if isinstance(error, CredentialError):
        return Decision(Outcome.UNAUTHENTICATED, 401, error.reason, error.message, rule, login=error.login)
    if isinstance(error, Unavailable):
        reason, message, after = error.reason, error.message, error.retry_after
        return Decision(Outcome.ERROR, 503, reason, message, rule, subject, retry_after=after)
    return Decision(Outcome.ERROR, 503, Reason.INTERNAL_ERROR, "The request could not be checked.", rule, subject)


def cannot(subject: Subject, missing: MissingRight) -> str:
    """Say which right is missing, in the words of kube-apiserver's own refusals, but for what is hidden."""
    attributes = missing.attributes
    if isinstance(attributes, NonResourceAttributes):
        return f'User "{subject.user}" cannot {attributes.verb} path "{attributes.path}"'
    resource = "/".join(filter(None, (attributes.resource, attributes.subresource)))
    scope = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    if missing.hidden:
        scope = "in the namespace of this object, or there is no such object"
    return (
        f'User "{subject.user}" cannot {attributes.verb} resource "{resource}" '
        f'in API group "{attributes.group}" {scope}'
    )


def _identity(subject: Subject) -> Mapping[str, Any]:
    return {
        "user": subject.user,
        "groups": list(subject.groups),
        "uid": subject.uid,
        "extra": {name: list(values) for name, values in subject.extra},
        "authenticator": subject.authenticator,
    }


def _review(review: Review) -> Mapping[str, Any]:
    answer = {**asdict(review.attributes), "allowed": review.allowed, "reason": review.reason}
    if review.evaluation_error:
        answer["evaluationError"] = review.evaluation_error
    return answer
