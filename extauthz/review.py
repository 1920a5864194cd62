"""May they: the question put to Kubernetes and the answer it gave.

Field names are those of `authorization.k8s.io/v1` SubjectAccessReview.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from extauthz.basis import Ground


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


def qualified(resource: str, group: str = "", subresource: str = "") -> str:
    """Return a resource as kubectl names it, and as `extauthz who-can` takes it: `runs.pipelines.kubeflow.org/log`."""
    return ".".join(filter(None, (resource, group))) + (f"/{subresource}" if subresource else "")


@dataclass(frozen=True, slots=True)
class MissingRight:
    """A right that a caller lacks, as far as the caller may know.

    Where it is `hidden`, the attributes hold neither namespace nor name, which could tell that there is such an object.
    """

    attributes: Attributes
    hidden: bool = False

    @classmethod
    def of(cls, attributes: Attributes, *, hidden: bool) -> MissingRight:
        """Return what may be told of a right."""
        if hidden and isinstance(attributes, ResourceAttributes):
            attributes = replace(attributes, namespace="", name="")
        return cls(attributes, hidden)


@dataclass(frozen=True, slots=True)
class Review:
    """One question and its answer.

    `reason` and `evaluation_error` are the authorizer's own words: for logs and the
    explaining CLI, never for the caller, since they name other tenants' bindings. `cached`
    tells whether the answer was remembered, `ground` how long it is known to be the answer.
    """

    attributes: Attributes
    allowed: bool
    reason: str = ""
    evaluation_error: str = ""
    cached: bool = field(default=False, compare=False)
    ground: Ground | None = field(default=None, compare=False, repr=False)
