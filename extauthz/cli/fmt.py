"""`extauthz fmt`: policy files in their one layout."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from extauthz.errors import ConfigurationError, Problem


def fmt(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Policy files, or folders.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; tell what would be written.")] = False,
) -> None:
    """Bring policy files into their one layout: the order of keys, indentation and spacing. Comments stay.

    \b
    Examples:
      extauthz fmt policies/
      extauthz fmt --check policies/

    What a file means never changes. A file that does not load is not written. In folders,
    files that are no policies are left alone.

    Exit code 0 when all is well, 1 when --check finds something, 2 when a file cannot be used.
    """
    from extauthz.policy import files

    found = False
    problems: list[Problem] = []
    for file in files.find(paths):
        try:
            after = _formatted(file, named=file in paths)
        except ConfigurationError as error:
            problems += error.problems
            continue
        if after is not None and after.encode() != file.read_bytes():
            found = True
            typer.echo(f"{'would format' if check else 'formatted'} {file}")
            if not check:
                _write(file, after)
    if problems:
        raise ConfigurationError(*problems)
    raise typer.Exit(1 if found and check else 0)


def _formatted(file: Path, *, named: bool) -> str | None:
    """Return the text of a file in its one layout, None where it is no policy. Raises ConfigurationError."""
    from extauthz import document, policy
    from extauthz.loading import KEYS, LOOKUPS
    from extauthz.policy import layout

    if not all(map(layout.is_policy, document.read(file))):
        if named:
            raise ConfigurationError(Problem("holds something else than a Policy or a Shadow", file))
        return None
    policy.load_everywhere([file], KEYS, LOOKUPS)
    return layout.formatted(file.read_bytes(), file)


def _write(file: Path, text: str) -> None:
    """Replace a file as a whole, so that whoever reads it meanwhile has the old one or the new one."""
    real = file.resolve()
    try:
        with tempfile.NamedTemporaryFile("w", dir=real.parent, prefix=".", delete=False) as stream:
            stream.write(text)
        shutil.copymode(real, stream.name)
        Path(stream.name).replace(real)
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be written: {error.strerror}", file)) from error
