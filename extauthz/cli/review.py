"""`extauthz review`: `kubectl auth can-i` for many questions at once, offline or of a cluster."""

from __future__ import annotations

import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from extauthz.cli.options import STDIN, LiveContext, LiveKubeconfig, need_live, opened

PROGRESS_EVERY = 100


def review(
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="Further manifests.")] = None,
    manifests: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="RBAC manifests: a file, or a folder read recursively. Repeatable."),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Ask a cluster's API server instead of manifests.")] = False,
    kubeconfig: LiveKubeconfig = None,
    context: LiveContext = None,
    questions: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Questions, one JSON object per line. Default: standard input.",
            show_default=False,
        ),
    ] = Path(STDIN),
) -> None:
    """Answer SubjectAccessReviews from RBAC manifests, as kube-apiserver would, or let a cluster answer them.

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
      '{"verb": "list", "resource": "pods", "namespace": "team-a"}}}' > questions.jsonl
    extauthz review --manifests rbac --input questions.jsonl
    extauthz review --live --context prod --input questions.jsonl

    Exit code 0 when all lines were answered, 1 when some were refused, 2 when manifests,
    cluster or input cannot be used.
    """
    paths = [*(manifests or []), *(more or [])]
    if live and paths:
        raise typer.BadParameter("asks a cluster; manifests take no part in that", param_hint="--live")
    need_live(kubeconfig, context, live=live)
    if not live and not paths:
        raise typer.BadParameter("name at least one file or folder, or use --live", param_hint="--manifests")
    with opened(questions) as lines:
        refused = _live(kubeconfig, context, lines) if live else _offline(paths, lines)
    raise typer.Exit(1 if refused else 0)


def _offline(paths: list[Path], lines: BinaryIO) -> int:
    from extauthz.access.rbac import RbacAuthorizer, load
    from extauthz.access.rbac.batch import answers

    told = _Told()
    for answer in answers(RbacAuthorizer(load(paths)), lines):
        told.tell(answer)
    return told.end()


def _live(kubeconfig: Path | None, context: str | None, lines: BinaryIO) -> int:
    import asyncio

    from extauthz.access.kubernetes.batch import answers
    from extauthz.access.kubernetes.connection import Connection

    async def ask() -> int:
        told = _Told(progress=sys.stderr.isatty() and not sys.stdout.isatty())
        async with (
            await Connection.open(kubeconfig=kubeconfig, context=context) as connection,
            aclosing(answers(connection, lines)) as answered,
        ):
            try:
                async for answer in answered:
                    told.tell(answer)
            finally:
                told.end()
        return told.refused

    return asyncio.run(ask())


class _Told:
    """What goes to standard output and standard error."""

    def __init__(self, *, progress: bool = False) -> None:
        self.refused = 0
        self._answered = 0
        self._progress = progress

    def tell(self, answer: dict[str, Any]) -> None:
        """Write one answer."""
        import orjson

        self._answered += 1
        if "error" in answer:
            self.refused += 1
            typer.echo(f"{self._over}line {answer['line']}: {answer['error']}", err=True)
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        if self._progress and self._answered % PROGRESS_EVERY == 0:
            typer.echo(f"{self._over}{self._answered} answered", err=True, nl=False)

    def end(self) -> int:
        """Write what is left; return how many lines were refused."""
        sys.stdout.buffer.flush()
        typer.echo(self._over, err=True, nl=False)
        return self.refused

    @property
    def _over(self) -> str:
        """What takes back the progress that stands in the terminal's line."""
        return "\r\x1b[K" if self._progress else ""
