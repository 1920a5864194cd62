"""The documented and stable form of an audit record; what is empty is left out.

From method, host, target, user, values and reviews a decision can be made again by another policy.
"""

from __future__ import annotations

from typing import Annotated, Literal, Required

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

_strict = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))


@_strict
class UserRecord(TypedDict, total=False):
    """Who asked, as Kubernetes names it."""

    username: Required[str]
    """The user name that was reviewed."""
    groups: list[str]
    """The groups, `system:authenticated` among them."""
    uid: str
    """The unique id, where the authenticator knows one."""
    extra: dict[str, list[str]]
    """What else the authenticator says of the user."""


@_strict
class RuleRecord(TypedDict):
    """The rule that decided."""

    name: str
    """The rule's name."""
    file: str
    """The policy file."""
    line: Annotated[int, Field(ge=1)]
    """Where in that file, counted from 1."""


@_strict
class ValueRecord(TypedDict, total=False):
    """What a source of the rule read."""

    source: Required[str]
    """The source as policies write it, such as `body:/namespace`."""
    value: str
    """The value; left out where the request has none."""


@_strict
class ReviewRecord(TypedDict, total=False):
    """One right that was asked for: of an API object, or of a `path`."""

    verb: Required[str]
    """What would be done."""
    group: str
    """The API group; left out for the core group."""
    version: str
    """The version."""
    resource: str
    """The resource."""
    subresource: str
    """The subresource."""
    namespace: str
    """The namespace; left out for all of them."""
    name: str
    """The object's name; left out for all of them."""
    path: str
    """The path of a right that is on no API object."""
    allowed: Required[bool]
    """The answer."""
    cached: Required[bool]
    """Whether the answer was remembered."""
    reason: str
    """The authorizer's own words: they may name bindings of other tenants."""


@_strict
class AuditRecord(TypedDict, total=False):
    """One decision."""

    kind: Required[Literal["Decision"]]
    """What the record is."""
    apiVersion: Required[Literal["audit.extauthz.dev/v1"]]
    """The version of this form. Members may be added to it; none changes its meaning."""
    auditID: Required[str]
    """A name for this record."""
    timestamp: Required[Annotated[str, Field(json_schema_extra={"format": "date-time"})]]
    """When it was decided (RFC 3339, UTC)."""
    requestID: str
    """The `x-request-id` of the request."""
    traceID: str
    """The trace that the request belongs to (W3C Trace Context)."""
    method: str
    """The method. Left out, like all that a request tells, where the check held no request."""
    host: str
    """The host that the client named."""
    target: str
    """The raw path and query, secrets masked."""
    peer: str
    """The mesh identity of the caller."""
    user: UserRecord
    """Who asked; left out where nobody was known yet."""
    authenticator: str
    """Who vouched for the user."""
    decision: Required[Literal["allow", "deny", "unauthenticated", "error"]]
    """How it ended."""
    status: Required[int]
    """The HTTP status of the answer."""
    reason: Required[str]
    """The code of the reason."""
    message: str
    """What the caller was told, or would have been."""
    shadow: bool
    """True where a shadow rule let pass what it would have refused."""
    rule: RuleRecord
    """The rule that decided; left out where none fits."""
    values: list[ValueRecord]
    """What the rule read that method, host and target do not tell, as far as it was known."""
    reviews: list[ReviewRecord]
    """The rights that were asked for."""
    latencySeconds: float
    """How long the decision took."""
    truncated: list[str]
    """The members that were cut or left out because the record was too long."""
