"""`extauthz token`: a token for the demo, signed with the demo's key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def token(
    user: Annotated[str, typer.Argument(help="The user's e-mail address, such as alice@example.com.")],
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="A group of the user.")] = None,
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="The demo's folder.")] = None,
) -> None:
    """Sign a token with the demo's key.

    \b
    Example:
      curl -H "authorization: Bearer $(extauthz token alice@example.com)" \\
        'localhost:8080/pipeline/apis/v2beta1/runs?namespace=team-a'

    The demo that runs, or ran last, in the state folder believes it.
    """
    from extauthz.demo.issuer import Signer, state_folder

    typer.echo(Signer.load(state or state_folder()).sign(user, group or []))
