"""The published JSON Schemas: valid themselves, complete, current, and fit for the shipped files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it comes without types
import pytest
import yaml
from pydantic import BaseModel

from extauthz.cli.schema import Kind, render
from extauthz.faults import TOLERABLE
from extauthz.policy.model import PolicyModel
from extauthz.settings import Settings
from tests.unit.policy.build import HEAD

REPOSITORY = Path(__file__).resolve().parents[3]
SCHEMAS = REPOSITORY / "policies" / "schema"
SHIPPED = sorted((REPOSITORY / "policies" / "kubeflow").rglob("*.yaml"))


def schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of a kind of file."""
    found: dict[str, Any] = json.loads(render(kind))
    return found


@pytest.mark.parametrize("kind", Kind)
def test_the_published_schema_is_current(kind: Kind) -> None:
    """When this fails, run `extauthz schema KIND > policies/schema/KIND.schema.json`."""
    assert (SCHEMAS / f"{kind}.schema.json").read_text().rstrip("\n") == render(kind)


@pytest.mark.parametrize("kind", Kind)
def test_the_schema_is_valid(kind: Kind) -> None:
    """Editors get a schema of draft 2020-12."""
    assert schema(kind)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema(kind))


@pytest.mark.parametrize("model", [PolicyModel, Settings])
def test_everything_is_described(model: type[BaseModel]) -> None:
    """An editor can say of every key what it is for."""
    whole = model.model_json_schema(by_alias=True)
    definitions = whole.get("$defs", {})
    described = {f"#/$defs/{name}" for name, found in definitions.items() if "description" in found}
    for name, found in {model.__name__: whole, **definitions}.items():
        assert "description" in found or "enum" in found, name
        for key, value in found.get("properties", {}).items():
            references = set(_references(value))
            assert "description" in value or (references and references <= described), f"{name}.{key}"


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for inner in value.values() for found in _references(inner)]
    return [found for inner in value for found in _references(inner)] if isinstance(value, list) else []


def test_choices_are_listed() -> None:
    """An editor can complete methods, answers and tolerable faults, and nothing that does not load."""
    definitions = schema(Kind.POLICY)["$defs"]
    rule = definitions["RuleModel"]["properties"]
    assert rule["tolerate"]["items"]["enum"] == sorted(TOLERABLE)
    assert {"enum": ["public", "authenticated"], "type": "string"} in rule["allow"]["anyOf"]
    assert rule["enforce"]["enum"] == ["enforce", "shadow"]
    methods = definitions["MatchModel"]["properties"]["methods"]["anyOf"][0]["items"]["enum"]
    assert methods == ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_shipped_policies_fit_the_schema_and_name_it(file: Path) -> None:
    """Opening a shipped policy in an editor finds the schema next to it."""
    text = file.read_text()
    first = text.partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (file.parent / first.partition("=")[2]).resolve() == SCHEMAS / "policy.schema.json"
    for part in yaml.safe_load_all(text):
        jsonschema.validate(part, schema(Kind.POLICY), jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "rules",
    [
        "- {name: a, match: {path: x}, allow: public}",
        "- {name: a, match: {path: /x}, alow: public}",
        "- {name: a, match: {path: /x, methods: [get]}, allow: public}",
        "- {name: a, match: {path: /x}, allow: public, tolerate: [dot_segment]}",
        "- {name: a, match: {path: /x}, access: []}",
        "- {name: a, match: {path: /x}, access: [{verb: get, resource: r, absent_namespace: refuse}]}",
        "- {match: {path: /x}, allow: public}",
    ],
)
def test_an_editor_underlines_what_does_not_load(rules: str) -> None:
    """Most mistakes show while they are typed."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(f"{HEAD}rules:\n{rules}"), schema(Kind.POLICY))
