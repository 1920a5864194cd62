"""What `extauthz who-can` and `what-can` share: where roles and bindings come from, and how answers are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from extauthz.access.rbac import RbacStore

Manifests = Annotated[
    list[Path] | None,
    typer.Option("--manifests", metavar="PATH", help="RBAC manifests: a file or a folder. Default: a live cluster."),
]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", metavar="FILE", help="Which kubeconfig. Default: as kubectl.")
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="Which context. Default: the current one.")
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NS", help="The namespace; without one, all of them.")
]


def store(manifests: list[Path] | None, kubeconfig: Path | None, context: str | None) -> RbacStore:
    """Read roles and bindings. Raises ConfigurationError, and Unavailable where a cluster does not answer."""
    if manifests and (kubeconfig or context):
        raise typer.BadParameter("asks a cluster; manifests take no part in that", param_hint="--kubeconfig/--context")
    if manifests:
        from extauthz.access import rbac

        return rbac.load(manifests)
    import asyncio

    return asyncio.run(_live(kubeconfig, context))


async def _live(kubeconfig: Path | None, context: str | None) -> RbacStore:
    from extauthz.access.kubernetes.connection import Connection
    from extauthz.access.watch import once

    async with await Connection.open(kubeconfig=kubeconfig, context=context) as connection:
        return await once.read(connection)


def show(rows: Sequence[Mapping[str, str]], output: str) -> None:
    """Print rows as a table, or as JSON."""
    if output == "json":
        typer.echo(json.dumps(rows))
        return
    titles = list(rows[0]) if rows else []
    table = [[title.upper() for title in titles], *([row[title] or "-" for title in titles] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table if rows else ():
        padded = (f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        typer.echo("   ".join(padded).rstrip())
