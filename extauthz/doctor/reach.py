"""Ways past the gateway: pods that answer to whoever calls them, and doors that nobody guards."""

from __future__ import annotations

from collections.abc import Iterator

from extauthz.doctor.fields import Fields, mapping, mappings, texts
from extauthz.doctor.finding import Finding, critical, warning
from extauthz.doctor.installation import Installation, overlap, selector
from extauthz.doctor.manifests import Manifest
from extauthz.doctor.policies import provider_of

_BELIEVING = ("ml-pipeline", "ml-pipeline-ui")
"""Workloads that believe kubeflow-userid."""
_OWNERS = "ns-owner-access-istio"


def examine(found: Installation) -> Iterator[Finding]:
    """Yield what can be reached without a check."""
    yield from _opened_without_guard(found)
    for policy in found.of("AuthorizationPolicy"):
        if policy.spec.get("action", "ALLOW") == "ALLOW":
            yield from _open_server(found, policy)
            yield from _open_paths(found, policy)


def _opened_without_guard(found: Installation) -> Iterator[Finding]:
    others = found.providers.keys() - {provider.name for provider in found.ours}
    # A policy whose provider nobody defines refuses everything: it opens nothing.
    guards = [policy for policy in found.custom if policy.namespace == found.root and provider_of(policy) not in others]
    for policy in found.of("AuthorizationPolicy"):
        if policy.namespace != found.root or selector(policy) or policy.spec.get("action", "ALLOW") != "ALLOW":
            continue
        if any(_by_gateway(rule) for rule in mappings(policy.spec, "rules")) and not any(map(_whole, guards)):
            yield critical(
                "opened-without-guard",
                policy,
                "It admits everything that comes through the gateway at every workload, and no policy sends everything "
                "at the gateway to extauthz: every user reaches the pods of every other.",
                "apply istio/components/gateway first, or delete this policy",
            )


def _by_gateway(rule: Fields) -> bool:
    principals = [name for origin in mappings(rule, "from") for name in texts(origin, "source", "principals")]
    return any("gateway" in name for name in principals)


def _whole(policy: Manifest) -> bool:
    return any(not rule for rule in mappings(policy.spec, "rules"))


def _open_server(found: Installation, policy: Manifest) -> Iterator[Finding]:
    app = selector(policy).get("app")
    if app not in _BELIEVING or not _admits_anybody(policy) or _closed(found, policy):
        return
    yield critical(
        "direct-access",
        policy,
        f"It admits callers by what they send, not by who they are: pods of tenants reach {app} past the gateway.",
        "apply istio/components/close-direct-access",
    )


def _open_paths(found: Installation, policy: Manifest) -> Iterator[Finding]:
    if policy.name != _OWNERS or not _admits_anybody(policy) or _closed(found, policy):
        return
    yield warning(
        "direct-access",
        policy,
        f"Some paths of every pod in {policy.namespace} are open to all pods of the mesh, past the gateway.",
        "apply the policy of docs/placement.md, “Pods that call each other”, to the namespace",
    )


def _admits_anybody(policy: Manifest) -> bool:
    return any(not rule.get("from") for rule in mappings(policy.spec, "rules"))


def _closed(found: Installation, policy: Manifest) -> bool:
    """Tell whether a DENY by the caller's identity, or a check, stands before the policy's workloads."""
    others = [item for item in found.of("AuthorizationPolicy") if overlap(item, policy, found.root)]
    others = [item for item in others if item.namespace == policy.namespace]
    return any(item.spec.get("action") == "CUSTOM" or _denies_strangers(item) for item in others)


def _denies_strangers(policy: Manifest) -> bool:
    sources = [mapping(o, "source") for rule in mappings(policy.spec, "rules") for o in mappings(rule, "from")]
    return policy.spec.get("action") == "DENY" and any("notPrincipals" in source for source in sources)
