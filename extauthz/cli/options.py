"""What several commands take alike: options, and lines from a file or standard input."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import typer

from extauthz.errors import ConfigurationError, Problem

STDIN = "-"

Output = Annotated[Literal["text", "json"], typer.Option("--output", "-o")]
LiveKubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", metavar="FILE", help="With --live: which kubeconfig. Default: as kubectl."),
]
LiveContext = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="With --live: which context. Default: the current one.")
]


def need_live(kubeconfig: Path | None, context: str | None, *, live: bool) -> None:
    """Raise BadParameter where a cluster is named that is not to be asked."""
    if not live and (kubeconfig or context):
        raise typer.BadParameter("needs --live", param_hint="--kubeconfig" if kubeconfig else "--context")


def opened(file: Path) -> AbstractContextManager[BinaryIO]:
    """Open a file to read, or standard input for `-`, which stays open. Raises ConfigurationError."""
    if str(file) == STDIN:
        return nullcontext(sys.stdin.buffer)
    try:
        return file.open("rb")
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", file)) from error
