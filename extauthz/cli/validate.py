"""`extauthz validate`: find what is wrong with policies and settings before they serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from extauthz.document import Document


def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Policy and settings files, or folders.")],
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> None:
    """Check policy and settings files; every problem names file, line, column and a fix.

    Example: extauthz validate policies/ settings.yaml

    All policy files given are checked together, as one policy. Exit code 0 when all is
    well, 1 with warnings, 2 when a file cannot be used.
    """
    import json

    errors, warnings, summary = _examine(paths)
    if output == "json":
        found = {"errors": [_fields(item) for item in errors], "warnings": [_fields(item) for item in warnings]}
        typer.echo(json.dumps({"valid": not errors, **found}))
    else:
        for problem in errors:
            typer.echo(f"error: {problem}", err=True)
        for problem in warnings:
            typer.echo(f"warning: {problem}", err=True)
        if not errors:
            typer.echo(f"ok: {summary}")
    raise typer.Exit(2 if errors else 1 if warnings else 0)


def _examine(paths: list[Path]) -> tuple[list[Problem], list[Problem], str]:
    from extauthz import policy, settings
    from extauthz.policy.loader import files
    from extauthz.service import KEYS, LOOKUPS, load_authority, load_lookup, load_policy

    errors: list[Problem] = []
    warnings: list[Problem] = []
    policies: list[Path] = []
    count = 0
    try:
        found = list(files(paths))
    except ConfigurationError as error:
        return list(error.problems), [], ""
    for file in found:
        count += 1
        try:
            if _kind(file) != "Settings":
                policies.append(file)
                continue
            loaded = settings.load(file)
            warnings += load_policy(loaded).warnings
            load_authority(loaded)
            load_lookup(loaded)
        except ConfigurationError as error:
            errors += error.problems
    rules = 0
    if policies:
        try:
            together = policy.load(policies, KEYS, LOOKUPS)
            warnings += together.warnings
            rules = len(together.rules)
        except ConfigurationError as error:
            errors += error.problems
    if not count:
        errors.append(Problem("no YAML file found", paths[0], hint="files end in .yaml or .yml"))
    return errors, warnings, f"{count} files, {rules} rules"


def _kind(file: Path) -> object:
    from extauthz import document

    parts: list[Document] = document.read(file)
    data = parts[0].data if parts else None
    return data.get("kind") if isinstance(data, dict) else None


def _fields(problem: Problem) -> dict[str, object]:
    return {
        "message": problem.message,
        "file": str(problem.file) if problem.file else None,
        "line": problem.line,
        "column": problem.column,
        "hint": problem.hint,
    }
