"""May they: the question put to Kubernetes and the answer it gave.

Field names are those of `authorization.k8s.io/v1` SubjectAccessReview.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResourceAttributes:
    """A right on an API object. An empty `namespace` asks for all namespaces, an empty `name` for all names."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class NonResourceAttributes:
    """A right on a URL path that is no API object."""

    verb: str
    path: str


Attributes = ResourceAttributes | NonResourceAttributes


@dataclass(frozen=True, slots=True)
class Review:
    """One question and its answer.

    `reason` and `evaluation_error` are the authorizer's own words: for logs and the
    explaining CLI, never for the caller, since they name other tenants' bindings.
    """

    attributes: Attributes
    allowed: bool
    reason: str = ""
    evaluation_error: str = ""
