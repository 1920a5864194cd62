"""`extauthz who-can`: everybody who has a right, and by which binding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli.options import Output
from extauthz.cli.rights import Context, Kubeconfig, Manifests, Namespace, show, store

if TYPE_CHECKING:
    from extauthz.access.rbac.holders import Holder


def who_can(
    verb: Annotated[str, typer.Argument(help="The verb, such as list.")],
    resource: Annotated[
        str,
        typer.Argument(help="As kubectl has it: pods/log, runs.pipelines.kubeflow.org; or a path such as /metrics."),
    ],
    namespace: Namespace = "",
    name: Annotated[str, typer.Option("--name", help="One object; without it, all of them.")] = "",
    manifests: Manifests = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = "text",
) -> None:
    """Tell who has a right: users, groups and service accounts, with role and binding.

    \b
    Examples:
      extauthz who-can list runs.pipelines.kubeflow.org -n team-a
      extauthz who-can get pods/log -n team-a --manifests rbac/

    A right counts as Kubernetes' RBAC counts it. Without -n it is one in all namespaces.

    Exit code 0 when somebody has it by a binding, 1 when nobody has, 2 when nobody could be asked.
    """
    from extauthz.access.rbac import holders
    from extauthz.review import NonResourceAttributes

    asked = (
        NonResourceAttributes(verb, resource)
        if resource.startswith("/")
        else holders.resource(resource, verb, namespace, name)
    )
    if asked is None:
        raise typer.BadParameter(f"{resource!r} names no resource", param_hint="RESOURCE")
    found = list(holders.who_can(store(manifests, kubeconfig, context), asked))
    show([_row(holder) for holder in found], output)
    raise typer.Exit(0 if any(holder.binding for holder in found) else 1)


def _row(holder: Holder) -> dict[str, str]:
    from extauthz.access.rbac.holders import shown

    subject, binding = holder.subject, holder.binding
    return {
        "kind": subject.kind,
        "subject": f"{subject.namespace}/{subject.name}" if subject.namespace else subject.name,
        "role": shown(binding.role) if binding else "",
        "binding": shown(binding.key) if binding else "",
        "namespace": binding.namespace if binding else "",
    }
