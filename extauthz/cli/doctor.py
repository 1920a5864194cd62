"""`extauthz doctor`: find what is wrong with an installation, in its manifests or where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli.options import LiveContext, LiveKubeconfig, Output, need_live

if TYPE_CHECKING:
    from extauthz.doctor.finding import Finding


def doctor(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Manifests: files, folders, or - for standard input."),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Look at a cluster, and ask its pods.")] = False,
    kubeconfig: LiveKubeconfig = None,
    context: LiveContext = None,
    admin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Ask an admin listener, such as a forwarded port. Repeatable."),
    ] = None,
    output: Output = "text",
) -> None:
    """Find what is wrong with an installation: the faults that refuse everything, or let somebody in.

    Every finding says what comes of it, and the fix. What is not among the manifests is not
    known, and nothing is said of it; --live looks at everything.

    \b
    Examples:
      kubectl kustomize istio/overlays/kubeflow | extauthz doctor -
      extauthz doctor --live
      kubectl -n extauthz port-forward deploy/extauthz 9002 &
      extauthz doctor --admin http://127.0.0.1:9002

    --live needs to read policies, ConfigMaps of istio-system and extauthz, RBAC and pods, as an
    administrator can; it changes nothing.

    Exit code 0 when nothing was found, 1 with findings, 2 when manifests or cluster cannot be read.
    """
    import asyncio

    need_live(kubeconfig, context, live=live)
    if not (paths or live or admin):
        raise typer.BadParameter("name manifests, or use --live or --admin", param_hint="PATH")
    if live and paths:
        raise typer.BadParameter("looks at a cluster; manifests take no part in that", param_hint="--live")
    looked_at, findings = asyncio.run(_examine(paths or [], admin or [], kubeconfig, context, live=live))
    _tell(looked_at, findings, output)
    raise typer.Exit(1 if findings else 0)


async def _examine(
    paths: list[Path], admin: list[str], kubeconfig: Path | None, context: str | None, *, live: bool
) -> tuple[str, list[Finding]]:
    from extauthz import doctor
    from extauthz.doctor import asked, manifests

    said: list[Finding] = []
    objects = manifests.read(paths)
    if live:
        objects, said = await asked.cluster(kubeconfig, context)
    for url in admin:
        said += await asked.listener(url)
    told = [f"{len(objects)} objects"] * bool(objects) + [f"{len(admin)} listeners"] * bool(admin)
    return " and ".join(told), [*doctor.examine(objects), *said]


def _tell(looked_at: str, findings: list[Finding], output: str) -> None:
    import json

    if output == "json":
        typer.echo(json.dumps({"findings": [finding.fields() for finding in findings]}, indent=2))
        return
    for finding in findings:
        typer.echo(f"{finding.text()}\n")
    worst = sum(finding.severity == "critical" for finding in findings)
    told = f"{worst} critical, {len(findings) - worst} to watch" if findings else "ok: nothing found"
    typer.echo(f"{told} in {looked_at}")
