"""`extauthz demo`: the local mesh, on a real Envoy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from extauthz.errors import ConfigurationError, Problem


def demo(
    port: Annotated[
        int, typer.Option(help="Port of gRPC mode; HTTP mode takes the next one. 0 takes free ones.")
    ] = 8080,
    verify: Annotated[bool, typer.Option("--verify", help="Try every case, print a table, and stop.")] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the demo's key, settings and logs.")
    ] = None,
    policies: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Policies of your own, instead of the shipped ones.")
    ] = None,
) -> None:
    """Run a local mesh on a real Envoy.

    Example: extauthz demo --port 8080

    Envoy asks extauthz in both modes; around it stand a stub Kubeflow, a token issuer and
    three tenants.

    Prints curl lines to paste, with what each should answer. With --verify it runs them
    itself and exits 0 only if all hold.
    """
    import asyncio

    try:
        from extauthz.demo.run import run
    except ImportError as error:
        problem = Problem(f"the demo's packages are missing ({error.name})", hint="pip install 'extauthz[demo]'")
        raise ConfigurationError(problem) from error
    raise typer.Exit(asyncio.run(run(port=port, verify=verify, state=state, policies=policies)))
