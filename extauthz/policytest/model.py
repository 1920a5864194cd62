"""A file of policy tests as a person writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from extauthz.document import Model
from extauthz.identity_settings import FilePath

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


class CaseModel(Model):
    """One request, and who may make it."""

    name: Annotated[str, Field(min_length=1)]
    """What must hold, in words."""
    request: RequestModel
    """The request, which every identity of the file makes."""
    allow: list[str] = []
    """The identities that pass. All others must be refused, `nobody` among them."""
    rule: str | None = None
    """The name of the rule that must decide."""


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
