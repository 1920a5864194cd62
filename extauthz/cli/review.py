"""`extauthz review`: the offline `kubectl auth can-i`, for many questions at once."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from extauthz.errors import ConfigurationError, Problem


def review(
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="Further manifests.")] = None,
    manifests: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="RBAC manifests: a file, or a folder read recursively. Repeatable."),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Questions, one JSON object per line. Default: standard input."),
    ] = None,
) -> None:
    """Answer SubjectAccessReviews from RBAC manifests, as kube-apiserver would.

    A line in is {"id": ..., "spec": {...}}, with the spec of a SubjectAccessReview. A line
    out is {"id": ..., "allowed": true, "reason": "..."}, in the same order. Groups count
    exactly as given: name system:authenticated yourself.

    A line that kube-apiserver would refuse is answered with "line" and "error", is told on
    standard error too, and the rest goes on.

    Example: may bob list pods in team-a?

    \b
    kubectl get clusterroles,clusterrolebindings -o yaml > rbac/cluster.yaml
    kubectl get roles,rolebindings -A -o yaml > rbac/namespaced.yaml
    echo '{"id": 1, "spec": {"user": "bob", "resourceAttributes":' \\
      '{"verb": "list", "resource": "pods", "namespace": "team-a"}}}' |
      extauthz review --manifests rbac

    Exit code 0 when all lines were answered, 1 when some were refused, 2 when manifests or
    input cannot be used.
    """
    import orjson

    from extauthz.access.rbac import RbacAuthorizer, load
    from extauthz.access.rbac.batch import answers

    paths = [*(manifests or []), *(more or [])]
    if not paths:
        raise typer.BadParameter("name at least one file or folder", param_hint="--manifests")
    authorizer, refused, out = RbacAuthorizer(load(paths)), 0, sys.stdout.buffer
    with _open(questions) as lines:
        for answer in answers(authorizer, lines):
            if "error" in answer:
                refused += 1
                typer.echo(f"line {answer['line']}: {answer['error']}", err=True)
            out.write(orjson.dumps(answer) + b"\n")
    out.flush()
    raise typer.Exit(1 if refused else 0)


def _open(questions: Path | None) -> AbstractContextManager[BinaryIO]:
    if questions is None:
        return nullcontext(sys.stdin.buffer)
    try:
        return questions.open("rb")
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", questions)) from error
