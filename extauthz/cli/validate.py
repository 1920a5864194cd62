"""`extauthz validate`: find what is wrong with policies, settings and policy tests before they serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from extauthz.cli.options import Output
from extauthz.decision import RuleRef
from extauthz.errors import ConfigurationError, Problem


def validate(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Policy, settings and policy test files, or folders.")
    ],
    output: Output = "text",
) -> None:
    """Check policy, settings and policy test files; every problem names file, line, column and a fix.

    Example: extauthz validate policies/ settings.yaml

    All policy files given are checked together, as one policy, at each of their placements.

    Exit code 0 when all is well, 1 with warnings, 2 when a file cannot be used.
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
    """Return errors, warnings and a summary."""
    from extauthz import policy
    from extauthz.loading import KEYS, LOOKUPS
    from extauthz.policy import files

    errors: list[Problem] = []
    warnings: list[Problem] = []
    policies: list[Path] = []
    rules: set[RuleRef] = set()
    try:
        found = files.find(paths)
    except ConfigurationError as error:
        return list(error.problems), [], ""
    for file in found:
        try:
            kind = _kind(file)
            if kind == "Settings":
                warnings += _settings(file)
            elif kind == "PolicyTest":
                _test(file)
            else:
                policies.append(file)
        except ConfigurationError as error:
            errors += error.problems
    if policies:
        try:
            for loaded in policy.load_everywhere(policies, KEYS, LOOKUPS).values():
                warnings += loaded.warnings
                rules |= {rule.ref for rule in loaded.rules}
        except ConfigurationError as error:
            errors += error.problems
    return _once(errors), _once(warnings), f"{len(found)} files, {len(rules)} rules"


def _settings(file: Path) -> tuple[Problem, ...]:
    """Return the warnings of a settings file and of what it names. Raises ConfigurationError."""
    from extauthz import settings
    from extauthz.loading import load_authority, load_lookup, load_policy

    loaded = settings.load(file)
    load_authority(loaded)
    load_lookup(loaded)
    return load_policy(loaded).warnings


def _test(file: Path) -> None:
    """Load a file of policy tests and what it names. Raises ConfigurationError."""
    from extauthz import policytest

    policytest.load([file])


def _kind(file: Path) -> object:
    from extauthz import document

    data = document.read(file)[0].data
    return data.get("kind") if isinstance(data, dict) else None


def _once(problems: list[Problem]) -> list[Problem]:
    """A policy that settings name may also have been named itself."""
    return list(dict.fromkeys(problems))


def _fields(problem: Problem) -> dict[str, object]:
    return {
        "message": problem.message,
        "file": str(problem.file) if problem.file else None,
        "line": problem.line,
        "column": problem.column,
        "hint": problem.hint,
    }
