"""`extauthz what-can`: what somebody may do in a namespace, and by which binding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from extauthz.cli.options import Output
from extauthz.cli.rights import Context, Kubeconfig, Manifests, Namespace, show, store

if TYPE_CHECKING:
    from extauthz.access.rbac.holders import Held


def what_can(
    user: Annotated[str, typer.Argument(help="The user, such as alice@example.com or system:serviceaccount:NS:NAME.")],
    namespace: Namespace = "",
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="A group of that user. Repeatable.")] = None,
    manifests: Manifests = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Output = "text",
) -> None:
    """Tell what somebody may do: verbs and resources, with role and binding.

    \b
    Examples:
      extauthz what-can alice@example.com -n team-a
      extauthz what-can bob@example.com -n team-a --group data-auditors --manifests rbac/

    Groups that Kubernetes gives every login, and every ServiceAccount, are added. Without -n
    only what counts in all namespaces is told.

    Exit code 0 when there is something, 1 when there is nothing, 2 when nobody could be asked.
    """
    from extauthz.access.rbac import holders
    from extauthz.identity.serviceaccount import groups_of
    from extauthz.subject import Subject

    subject = Subject.authenticated(user, (*(group or ()), *groups_of(user)))
    found = list(holders.what_can(store(manifests, kubeconfig, context), subject, namespace))
    show([_row(held) for held in found], output)
    raise typer.Exit(0 if found else 1)


def _row(held: Held) -> dict[str, str]:
    from extauthz.access.rbac.holders import shown

    rule, binding = held.rule, held.binding
    return {
        "verbs": ",".join(rule.verbs),
        "resources": " ".join(_resources(rule.resources, rule.api_groups)) or " ".join(rule.non_resource_urls),
        "names": ",".join(rule.resource_names),
        "role": shown(binding.role) if binding else "",
        "binding": shown(binding.key) if binding else "",
        "namespace": binding.namespace if binding else "",
    }


def _resources(resources: tuple[str, ...], groups: tuple[str, ...]) -> list[str]:
    from extauthz.review import qualified

    pairs = [(resource.partition("/"), group) for group in groups for resource in resources]
    return [qualified(plural, group, subresource) for (plural, _, subresource), group in pairs]
