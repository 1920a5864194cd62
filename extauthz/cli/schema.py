"""`extauthz schema`: the JSON Schema that editors check policies and settings with."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """The kinds of files that have a schema."""

    POLICY = "policy"
    SETTINGS = "settings"


def schema(kind: Annotated[Kind, typer.Argument(help="Which kind of file.")] = Kind.POLICY) -> None:
    """Print the JSON Schema of a policy or settings file.

    Example: extauthz schema policy > policy.schema.json, and in the policy's first line:
    # yaml-language-server: $schema=policy.schema.json
    """
    typer.echo(render(kind))


def render(kind: Kind) -> str:
    """Return the JSON Schema of a kind of file, as text."""
    from extauthz.policy.model import PolicyModel
    from extauthz.settings import Settings

    model = PolicyModel if kind is Kind.POLICY else Settings
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}
    return json.dumps(document, indent=2, sort_keys=True)
