"""`extauthz schema`: the JSON Schema that editors check files with, and whoever reads the audit log."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer


class Kind(StrEnum):
    """The kinds of files that have a schema."""

    AUDIT = "audit"
    POLICY = "policy"
    SHADOW = "shadow"
    SETTINGS = "settings"
    TEST = "test"


def schema(
    kind: Annotated[Kind, typer.Argument(help="Which kind of file.")] = Kind.POLICY,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables for people; of settings only.")] = False,
) -> None:
    """Print the JSON Schema of a policy, shadow, settings or policy test file, or of a line of the audit log.

    Example: extauthz schema policy > policy.schema.json, and in the policy's first line:
    # yaml-language-server: $schema=policy.schema.json
    """
    if markdown and kind is not Kind.SETTINGS:
        raise typer.BadParameter("--markdown goes with settings")
    typer.echo(table() if markdown else render(kind))


def render(kind: Kind) -> str:
    """Return the JSON Schema of a kind of file, as text."""
    from pydantic import TypeAdapter

    from extauthz.observe.audit.record import AuditRecord
    from extauthz.policy.model import PolicyModel, ShadowModel
    from extauthz.policytest.model import PolicyTestModel
    from extauthz.settings import Settings

    models: dict[Kind, Any] = {
        Kind.AUDIT: AuditRecord,
        Kind.POLICY: PolicyModel,
        Kind.SHADOW: ShadowModel,
        Kind.SETTINGS: Settings,
        Kind.TEST: PolicyTestModel,
    }
    schema = TypeAdapter(models[kind]).json_schema(by_alias=True)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(document, indent=2, sort_keys=True)


def table() -> str:
    """Return every setting as a table for people."""
    from extauthz.cli import reference
    from extauthz.settings import Settings

    return reference.render(Settings, "Settings").rstrip("\n")
