"""The published JSON Schemas: valid themselves, complete, current, and fit for the shipped files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it comes without types
import pytest
import yaml
from pydantic import BaseModel

from extauthz import document
from extauthz.cli.schema import Kind, render
from extauthz.policy.model import PolicyModel
from extauthz.request.faults import TOLERABLE
from extauthz.settings import Settings
from tests.unit.policy.build import HEAD

REPOSITORY = Path(__file__).resolve().parents[3]
SCHEMAS = REPOSITORY / "policies" / "schema"


@cache
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


KINDS = {"Policy": Kind.POLICY, "Shadow": Kind.SHADOW, "PolicyTest": Kind.TEST, "Settings": Kind.SETTINGS}
FOLDERS = [REPOSITORY / name for name in ("policies", "istio")]
OURS = [
    (file, found[1])
    for folder in FOLDERS
    for file in sorted(folder.rglob("*.yaml"))
    if (found := re.search(r"^kind: (Policy|Shadow|PolicyTest|Settings)$", file.read_text(), re.MULTILINE))
]


@pytest.mark.parametrize(("file", "kind"), OURS, ids=[str(file.relative_to(REPOSITORY)) for file, _ in OURS])
def test_every_file_of_ours_tells_an_editor_its_schema(file: Path, kind: str) -> None:
    """The first line names a schema that is in the repository, and the file fits it."""
    text = file.read_text()
    first = text.partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (file.parent / first.partition("=")[2]).resolve() == SCHEMAS / f"{KINDS[kind]}.schema.json"
    for part in document.parse(text.encode(), file):
        jsonschema.validate(part.data, schema(KINDS[kind]), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("kind", [Kind.POLICY, Kind.TEST, Kind.SHADOW])
def test_examples_are_examples(kind: Kind) -> None:
    """What an editor offers fits where it is offered."""
    whole = schema(kind)
    offered = list(_examples(whole))
    assert offered
    for place, example in offered:
        jsonschema.validate(example, {**place, "$defs": whole.get("$defs", {})}, jsonschema.Draft202012Validator)


def _examples(place: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield every schema with each of its examples."""
    if isinstance(place, dict):
        if isinstance(found := place.get("examples"), list):
            yield from ((place, example) for example in found)
        for value in place.values():
            yield from _examples(value)
    elif isinstance(place, list):
        for value in place:
            yield from _examples(value)
