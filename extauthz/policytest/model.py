"""A file of policy tests as a person writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, model_validator

from extauthz.document import Model
from extauthz.settings.identity import FilePath

NOBODY = "nobody"
"""The identity of a request without a credential; every file has it."""


class IdentityModel(Model):
    """Somebody who asks, as the gateway would know him once his credential is verified."""

    user: Annotated[str, Field(min_length=1)]
    """The user name; that of a ServiceAccount is `system:serviceaccount:NAMESPACE:NAME`."""
    groups: list[str] = []
    """The groups. Those that Kubernetes adds for every login, and for ServiceAccounts, are added here, too."""
    claims: dict[str, JsonValue] = {}
    """Claims of the token, for `claim:` sources."""


class ObjectModel(Model):
    """What is known of an object that a request names by its id."""

    namespace: str = ""
    """The namespace it belongs to; empty for what is shared by all."""
    name: str = ""
    """The name that a review gives it."""


class RequestModel(Model):
    """A request as Envoy shows it."""

    method: str = "GET"
    """The method."""
    path: Annotated[str, Field(pattern="^/")]
    """The path, and the query after a question mark, exactly as sent."""
    host: str = ""
    """The host."""
    headers: dict[str, str] = {}
    """Headers."""
    body: JsonValue = None
    """The body, sent as JSON; text is sent as it is."""


class ReviewModel(Model):
    """A right that is asked for: of an API resource, or with `path` of a URL."""

    verb: str
    """The verb."""
    group: str = ""
    """The API group."""
    resource: str = ""
    """The resource, in plural."""
    subresource: str = ""
    """The subresource."""
    namespace: str = ""
    """The namespace; empty for all of them."""
    name: str = ""
    """The object's name; empty for all of them."""
    path: str = ""
    """A URL path that is no API object."""


class CaseModel(Model):
    """One request, or several, and who may make them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "Members list runs", "request": {"path": "/runs?namespace=team-a"}, "allow": ["alice"]},
                {
                    "name": "Who may do what",
                    "requests": {"list": {"path": "/runs"}, "create": {"method": "POST", "path": "/runs"}},
                    "allow": {"alice": ["list", "create"], "erin": ["list"]},
                },
            ]
        }
    )

    name: Annotated[str, Field(min_length=1)]
    """What must hold, in words."""
    request: RequestModel | None = None
    """The request, which every identity of the file makes."""
    requests: dict[str, RequestModel] | None = None
    """Instead of one request several, by names that `allow` uses: every identity makes every one of them."""
    allow: list[str] | dict[str, list[str]] = []
    """The identities that pass; with `requests`, each with the requests that pass. All else must be refused, whatever
    `nobody` asks for included."""
    rule: str | None = None
    """The name of the rule that must decide."""
    reviews: list[ReviewModel] | None = None
    """The rights that must be asked for, no more and no fewer, whoever of the identities asks."""
    headers: dict[str, str | None] = {}
    """Headers that the upstream must get where the request passes; `null` is one that is taken off."""

    @model_validator(mode="after")
    def _one_form(self) -> CaseModel:
        if (self.request is None) == (self.requests is None):
            raise ValueError(f"test {self.name!r} needs exactly one of request and requests")
        if self.requests is not None and not isinstance(self.allow, dict) and self.allow:
            raise ValueError(f"test {self.name!r} has requests, so allow needs the requests of each identity")
        if self.request is not None and isinstance(self.allow, dict):
            raise ValueError(f"test {self.name!r} has one request, so allow is a list of identities")
        if self.requests is not None and (self.reviews is not None or self.headers):
            raise ValueError(f"test {self.name!r} has several requests; reviews and headers are expected of one")
        return self

    def matrix(self) -> Iterator[tuple[str, RequestModel, frozenset[str]]]:
        """Yield every request with its name, empty for the only one, and the identities that pass."""
        if self.request is not None:
            yield "", self.request, frozenset(self.allow)
        for name, request in (self.requests or {}).items():
            passing = self.allow.items() if isinstance(self.allow, dict) else ()
            yield name, request, frozenset(identity for identity, names in passing if name in names)


class PolicyTestModel(Model):
    """One file of policy tests."""

    api_version: Literal["extauthz.dev/v1"]
    """The version of the form."""
    kind: Literal["PolicyTest"]
    """What the file holds."""
    policies: Annotated[list[FilePath], Field(min_length=1)]
    """Policy files and folders to test, as seen from this file's folder."""
    placement: str = "gateway"
    """The place of the mesh that is guarded."""
    hosts: list[str] = []
    """The platform's own hosts, as in the settings."""
    values: dict[str, str | list[str]] = {}
    """Replaces the policies' values by name, as in the settings."""
    manifests: list[FilePath] = []
    """RBAC manifests, as seen from this file's folder; without them nobody has a right."""
    lookups: dict[str, dict[str, str | ObjectModel]] = {}
    """Objects by kind and id: the namespace, or namespace and name. Every other id is unknown."""
    identities: dict[str, IdentityModel] = {}
    """Who asks, by the names that `allow` uses."""
    tests: Annotated[list[CaseModel], Field(min_length=1)]
    """The tests."""

    def resolved(self, file: Path, paths: list[Path]) -> list[Path]:
        """Return paths as seen from the test file's folder, each with the one spelling that all files share."""
        return [(file.parent / path).resolve() for path in paths]
