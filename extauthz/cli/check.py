"""`extauthz check`: one decision, explained; or many, one per line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


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
    batch: Annotated[
        Path | None, typer.Option("--batch", metavar="FILE.jsonl", help="Many requests; - is standard input.")
    ] = None,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="A batch is always JSON.")] = "text",
) -> None:
    """Decide a request as the service would, and explain why.

    \b
    Examples:
      extauthz check -c settings.yaml --user alice@example.com GET '/notebook/team-a/nb/'
      extauthz check -c settings.yaml --token "$TOKEN" POST \\
        /pipeline/apis/v2beta1/experiments --body @experiment.json
      extauthz check -c settings.yaml --request checkrequest.json
      extauthz check -c settings.yaml --batch requests.jsonl

    A batch line is {"id", "user", "groups", "method", "url", "headers", "body"}; one result per
    line comes out, in order. A line that cannot be read gets a result with "line" and "error",
    is told on standard error too, and the rest goes on.

    Without --user (in a batch: "user") the identity is what the request's headers prove; an
    empty user is nobody.

    Exit code 0 allows, 1 refuses (in a batch: some line could not be read), 2 is a usage or
    configuration error.
    """
    import asyncio
    import os

    from extauthz import settings
    from extauthz.cli import ask, explain
    from extauthz.explain import Question

    if user is not None and token is not None:
        raise typer.BadParameter("give --user or --token, not both")
    if group and user is None:
        raise typer.BadParameter("--group needs --user")
    given = [batch is not None, request is not None, method is not None]
    if sum(given) != 1 or (method is not None and url is None):
        raise typer.BadParameter("give METHOD and URL, or --request, or --batch")
    if method is None and (header or body is not None or token is not None):
        raise typer.BadParameter("--header, --body and --token go with METHOD and URL")
    if batch is not None and user is not None:
        raise typer.BadParameter("a batch names the user of each line itself")
    session = explain.Session(settings.load(config, os.environ))
    if batch is not None:
        raise typer.Exit(asyncio.run(explain.run_batch(session, batch)))
    if request is not None:
        asked = ask.from_check_request(request, limit=session.limit)
    else:
        asked = ask.from_arguments(method or "", url or "", header or [], body, token, limit=session.limit)
    question = Question(asked, user, tuple(group or ()))
    raise typer.Exit(asyncio.run(explain.run_one(session, question, output)))
