"""`extauthz test`: policy tests in YAML, and what they and the policy cover."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extauthz.cli.options import Output
from extauthz.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from extauthz.policytest import Coverage, Result


def policy_tests(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files of policy tests, or folders.")],
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Tell which cases reach each rule, and which rule decides each route.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML, too.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Run again whenever a file changes.")] = False,
    output: Output = "text",
) -> None:
    """Run policy tests: who passes, and who must not.

    \b
    Examples:
      extauthz test policies/tests
      extauthz test policies/tests --coverage
      extauthz test policies/tests --junit results.xml
      extauthz test policies/tests --watch

    A test names a request and the identities that pass, or several requests and which of
    them pass for whom; every other identity of its file must be refused, and so must a
    request without a credential. It may name the rule that must decide, the rights that must
    be asked for and the headers that the upstream must get. The rights are those of the
    RBAC manifests that the file names; no cluster is asked.

    With --coverage every rule is listed with the number of cases that reach it, and every
    known route of Kubeflow with the rule that decides it.

    Exit code 0 when all hold, 1 when one does not, 2 when a file cannot be used.
    """
    if not watch:
        raise typer.Exit(_run(paths, coverage, junit, output))
    for _ in _changes(paths):
        try:
            _run(paths, coverage, junit, output)
        except ConfigurationError as error:
            typer.echo(f"error: {error}", err=True)


def _run(paths: list[Path], coverage: bool, junit: Path | None, output: str) -> int:
    """Run all tests once; return the exit code."""
    import json

    from extauthz import policytest
    from extauthz.policytest.junit import render

    suites = policytest.load(paths)
    results = [result for suite in suites for result in suite.run()]
    wrong = [result for result in results if result.problem]
    covered = list(policytest.covered(suites, results)) if coverage else []
    cases = sum(len(suite.model.tests) for suite in suites)
    if junit:
        _write(junit, render(results))
    if output == "json":
        typer.echo(json.dumps(_document(cases, results, wrong, covered)))
    else:
        for one in covered:
            _tell_coverage(one)
        for result in wrong:
            _tell(result)
        typer.echo(f"{cases} cases, {len(results)} decisions, {len(wrong)} wrong")
    return 1 if wrong else 0


def _changes(paths: list[Path]) -> Iterator[None]:
    """Yield now, and whenever a file of the tests, or one that they name, has changed."""
    import watchfiles

    from extauthz import policytest

    yield
    seen = policytest.named(paths)
    for _ in watchfiles.watch(*{path if path.is_dir() else path.parent for path in seen}):
        yield


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be written: {error.strerror}", file)) from error


def _tell(result: Result) -> None:
    decision = result.decision
    rule = f" by {decision.rule}" if decision.rule else ""
    typer.echo(f"{result.file}:{result.line}: {result.case}: {result.who} {result.problem}")
    typer.echo(f"    {decision.outcome} {decision.status} {decision.reason}{rule}")
    typer.echo(f"    {decision.message}")


def _tell_coverage(one: Coverage) -> None:
    typer.echo(f"policy {' '.join(one.policies)}")
    typer.echo(f"rules: {len(one.rules) - len(one.unreached)} of {len(one.rules)} reached")
    for name, count in one.rules.items():
        typer.echo(f"  {count:4} {name}")
    ruled = sum(bool(route.rule) for route in one.routes)
    typer.echo(f"routes: {ruled} of {len(one.routes)} have a rule; the others are refused")
    for route in one.routes:
        host = f" (host {route.host})" if route.host else ""
        typer.echo(f"  {route.placement} {route.method} {route.path}{host}: {route.rule or 'refused'}")


def _document(cases: int, results: list[Result], wrong: list[Result], covered: list[Coverage]) -> dict[str, Any]:
    return {
        "passed": not wrong,
        "cases": cases,
        "decisions": len(results),
        "failures": [_failure(result) for result in wrong],
        "coverage": [_coverage(one) for one in covered],
    }


def _failure(result: Result) -> dict[str, Any]:
    where = {"file": str(result.file), "line": result.line, "case": result.case, "identity": result.identity}
    where |= {"request": result.request} if result.request else {}
    return {**where, "problem": result.problem, "decision": result.decision.as_json()}


def _coverage(one: Coverage) -> dict[str, Any]:
    from dataclasses import asdict

    return {"policies": one.policies, "rules": one.rules, "routes": [asdict(route) for route in one.routes]}
