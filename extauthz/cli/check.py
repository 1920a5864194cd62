"""`extauthz check`: one decision, explained; or many, one per line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Decide a request as the service would, and explain why.

Examples:

  extauthz check -c settings.yaml --user alice@example.com GET '/pipeline/apis/v2beta1/runs?namespace=team-a'

  extauthz check -c settings.yaml --token "$TOKEN" POST /pipeline/apis/v2beta1/experiments --body @experiment.json

  extauthz check -c settings.yaml --request checkrequest.json

  extauthz check -c settings.yaml --batch requests.jsonl

A batch line is {"id", "user", "groups", "method", "url", "headers", "body"}; one result per line
comes out, in order. Without --user the identity is read from the request's headers.

Exit code 0 allows, 1 refuses (in a batch: some line could not be read), 2 is a usage or
configuration error."""


def check(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The settings file.")],
    method: Annotated[str | None, typer.Argument(help="The request method, such as GET.")] = None,
    url: Annotated[str | None, typer.Argument(help="Path and query, or a whole URL.")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Decide for this user, without a token.")] = None,
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="A group of that user.")] = None,
    token: Annotated[str | None, typer.Option("--token", "-t", help="Send this bearer token.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="A header: 'name: value'.")] = None,
    body: Annotated[str | None, typer.Option("--body", help="The body, or @FILE.")] = None,
    request: Annotated[
        Path | None, typer.Option("--request", metavar="CHECKREQUEST.json", help="A CheckRequest as protobuf JSON.")
    ] = None,
    batch: Annotated[Path | None, typer.Option("--batch", metavar="FILE.jsonl", help="Many requests.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> None:
    """Decide a request as the service would, and explain why."""
    import asyncio

    from extauthz import settings
    from extauthz.cli import explain

    if output not in ("text", "json"):
        raise typer.BadParameter(f"{output!r} is neither text nor json", param_hint="--output")
    if user is not None and token is not None:
        raise typer.BadParameter("give --user or --token, not both")
    if group and user is None:
        raise typer.BadParameter("--group needs --user")
    given = [batch is not None, request is not None, method is not None]
    if sum(given) != 1 or (method is not None and url is None):
        raise typer.BadParameter("give METHOD and URL, or --request, or --batch")
    session = explain.Session(settings.load(config))
    subject = (user, group or []) if user is not None else None
    if batch is not None:
        raise typer.Exit(asyncio.run(explain.run_batch(session, batch)))
    if request is not None:
        asked = explain.from_check_request(request, session.max_body_bytes)
    else:
        asked = explain.from_arguments(method or "", url or "", header or [], body, token)
    raise typer.Exit(asyncio.run(explain.run_one(session, asked, subject, output)))


check.__doc__ = HELP
