"""`extauthz diff`: what another policy, or other rights, would change of what was decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from extauthz.cli.options import Output, opened
from extauthz.cli.told import printable
from extauthz.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from extauthz.policy import Policy
    from extauthz.replay import Change, Comparison, Verdict
    from extauthz.replay.comparison import Group
    from extauthz.steps import Authorizer

TOLD = 20
"""How many groups, users, namespaces and rules are told in text; JSON has all groups."""

Paths = list[Path] | None


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The policy as it is: a file or a folder.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The policy as it is to be.")],
    log: Annotated[Path, typer.Option("--log", metavar="AUDIT.jsonl", help="The audit log; - is standard input.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Settings, for placement, hosts and values of both."),
    ] = None,
    manifests: Annotated[Paths, typer.Option(metavar="PATH", help="RBAC manifests that answer reviews.")] = None,
    old_manifests: Annotated[Paths, typer.Option(metavar="PATH", help="RBAC manifests for OLD.")] = None,
    new_manifests: Annotated[Paths, typer.Option(metavar="PATH", help="RBAC manifests for NEW.")] = None,
    fail_on: Annotated[
        Literal["newly-allowed", "newly-refused", "any"] | None,
        typer.Option(help="Exit with 1 when something of this kind is found."),
    ] = None,
    output: Output = "text",
) -> None:
    """Decide recorded requests again by two policies, and tell what changes.

    \b
    Examples:
      extauthz diff policies/kubeflow policies/new --log audit.jsonl
      extauthz diff policies policies --log audit.jsonl \\
        --old-manifests rbac/ --new-manifests rbac-next/ --fail-on newly-allowed
      kubectl logs deploy/extauthz | extauthz diff old new --log -

    Without manifests the rights are those of the log, so a policy that asks for another right
    needs them. What neither tells is counted as undecidable, never as unchanged.

    Exit code 0 when all was read, 1 when --fail-on finds something, 2 when files cannot be used.
    """
    if manifests and (old_manifests or new_manifests):
        raise typer.BadParameter("goes without --old-manifests and --new-manifests", param_hint="--manifests")
    from extauthz.replay import Comparison, Judge

    policies = [_policy(path, config) for path in (old, new)]
    rights = [_rights(paths or manifests) for paths in (old_manifests, new_manifests)]
    judges = [Judge(policy, right, recorded_by=policies[0]) for policy, right in zip(policies, rights, strict=True)]
    comparison = Comparison(*judges)
    with opened(log) as lines, _quiet():
        _read(comparison, lines, log)
    if comparison.unreadable_lines and not comparison.lines:
        number, why = comparison.unreadable[0]
        raise ConfigurationError(Problem(f"no line is a record of a decision; line {number} is {why}", log))
    _tell(comparison, output)
    raise typer.Exit(1 if _found(comparison, fail_on) else 0)


def _policy(path: Path, config: Path | None) -> Policy:
    from extauthz import policy, settings
    from extauthz.loading import KEYS, LOOKUPS, load_policy

    return load_policy(settings.load(config), [path]) if config else policy.load([path], KEYS, LOOKUPS)


def _rights(manifests: Paths) -> Authorizer | None:
    from extauthz.access import rbac

    return rbac.RbacAuthorizer(rbac.load(manifests)) if manifests else None


def _read(comparison: Comparison, lines: BinaryIO, log: Path) -> None:
    """Read the whole log; a terminal sees how far it is."""
    import sys

    sizes = comparison.add(lines)
    if not sys.stderr.isatty():
        for _ in sizes:
            pass
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=log.stat().st_size if log.is_file() else None)
        for size in _summed(sizes):
            progress.advance(task, size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Tell nothing of shadows: they were told when they fell."""
    import logging

    from extauthz import flow

    logger = logging.getLogger(flow.__name__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _summed(sizes: Iterator[int]) -> Iterator[int]:
    """Add up sizes, so that progress costs little."""
    total = 0
    for number, size in enumerate(sizes, 1):
        total += size
        if number % 1000 == 0:
            yield total
            total = 0
    yield total


def _found(comparison: Comparison, fail_on: str | None) -> bool:
    from extauthz.replay import Change

    wanted = {Change.NEWLY_ALLOWED, Change.NEWLY_REFUSED} if fail_on == "any" else {fail_on}
    return any(count for change, count in comparison.counts.items() if change in wanted)


def _tell(comparison: Comparison, output: str) -> None:
    import json

    for number, why in comparison.unreadable:
        typer.echo(f"line {number}: {why}", err=True)
    if output == "json":
        typer.echo(json.dumps(_document(comparison)))
        return
    typer.echo(f"{comparison.lines} decisions, {comparison.distinct} of them different")
    for change, groups in _sorted(comparison):
        typer.echo(f"\n{change}: {comparison.counts[change]}")
        for name in ("user", "namespace", "rule"):
            _tell_counts(name, groups)
        for verdict, group in groups[:TOLD]:
            _tell_group(verdict, group)
        if len(groups) > TOLD:
            typer.echo(f"  … and {len(groups) - TOLD} groups more (-o json has all)")
    if comparison.unreadable_lines:
        typer.echo(f"\nnot read: {comparison.unreadable_lines} lines", err=True)


def _tell_counts(name: str, groups: list[tuple[Verdict, Group]]) -> None:
    counts: Counter[str] = Counter()
    for verdict, group in groups:
        counts[getattr(verdict, name)] += group.count
    del counts[""]
    if counts:
        told = (f"{printable(key)} {count}" for key, count in counts.most_common(TOLD))
        typer.echo(f"  by {name:9}  {', '.join(told)}")


def _tell_group(verdict: Verdict, group: Group) -> None:
    words = [word for word in (verdict.user, verdict.namespace and f"in {verdict.namespace}") if word]
    ways = f"{verdict.old} -> {verdict.new}" if verdict.old else verdict.new
    typer.echo(f"  {group.count:6}  {printable(' '.join(words))}  {ways}")
    for number, request in group.examples:
        typer.echo(f"          line {number}: {printable(request)}")


def _document(comparison: Comparison) -> dict[str, Any]:
    from dataclasses import asdict

    changes = [
        {**asdict(verdict), "count": group.count, "examples": [_example(*example) for example in group.examples]}
        for _, groups in _sorted(comparison)
        for verdict, group in groups
    ]
    counts = {str(change): count for change, count in comparison.counts.items()}
    return {
        "decisions": comparison.lines,
        "distinct": comparison.distinct,
        "unreadable": comparison.unreadable_lines,
        "counts": counts,
        "changes": changes,
    }


def _example(line: int, request: str) -> dict[str, Any]:
    return {"line": line, "request": request}


def _sorted(comparison: Comparison) -> Iterator[tuple[Change, list[tuple[Verdict, Group]]]]:
    """Yield what differs by its kind, the most frequent first."""
    from extauthz.replay import Change

    ranked = sorted(comparison.groups.items(), key=lambda item: -item[1].count)
    for change in Change:
        if found := [item for item in ranked if item[0].change is change]:
            yield change, found
