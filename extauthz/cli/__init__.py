"""The command line: one file per command.

Exit codes: 0 allow or all well, 1 deny or findings, 2 usage or configuration error.
Commands import what they need when they run, so that each starts fast.
"""

from __future__ import annotations

import sys

import typer

from extauthz import __version__
from extauthz.cli import check, demo, diff, doctor, fmt, review, schema, serve, test, token, validate, what_can, who_can
from extauthz.errors import ExtauthzError

app = typer.Typer(
    name="extauthz",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Guard a shared Kubeflow: an Envoy/Istio ext_authz provider that asks Kubernetes RBAC.

    \b
    Examples:
      extauthz demo
      extauthz check -c settings.yaml --user alice@example.com GET /notebook/team-a/nb/
      extauthz serve -c settings.yaml

    Exit codes: 0 allow or all well, 1 deny or findings, 2 usage or configuration error.
    """


app.command()(serve.serve)
app.command()(check.check)
app.command()(validate.validate)
app.command()(diff.diff)
app.command()(doctor.doctor)
app.command("test")(test.policy_tests)
app.command()(fmt.fmt)
app.command()(schema.schema)
app.command()(review.review)
app.command()(who_can.who_can)
app.command()(what_can.what_can)
app.command()(demo.demo)
app.command()(token.token)


def main() -> None:
    """Run the command line. Expected errors become one message and exit code 2."""
    try:
        app()
    except ExtauthzError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
