"""The policies that send requests to a provider: whether they do, and what they leave out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations

from extauthz.doctor.fields import mapping, mappings, text_map, texts
from extauthz.doctor.finding import Finding, critical
from extauthz.doctor.installation import Installation, overlap, pod_spec, selector
from extauthz.doctor.manifests import Manifest
from extauthz.doctor.providers import environment
from extauthz.document import near

_SEVERAL = "PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS"
_FIRST_WITH_SEVERAL = (1, 30)


def examine(found: Installation) -> Iterator[Finding]:
    """Yield the faults of the CUSTOM policies."""
    for policy in found.custom:
        yield from _provider(found, policy)
        yield from _dry_run(policy)
        yield from _exemptions(found, policy)
        yield from _choices(found, policy)
        yield from _ambient(found, policy)
        yield from _egress(found, policy)
    yield from _several(found)


def provider_of(policy: Manifest) -> str:
    """Return the provider that a policy names."""
    return str(mapping(policy.spec, "provider").get("name", ""))


def _provider(found: Installation, policy: Manifest) -> Iterator[Finding]:
    name = provider_of(policy)
    if name not in found.providers:
        defined = ", ".join(sorted(found.providers)) or "none"
        fix = "define it under extensionProviders, as istio/components/mesh-config does"
        guess = near(name, found.providers)
        yield critical(
            "provider-missing",
            policy,
            f"It names the provider {name!r}, which no mesh configuration here defines (defined: {defined}). Istio "
            "refuses every request that the policy matches, with 403.",
            f"{guess} Else {fix}" if guess else fix,
        )


def _dry_run(policy: Manifest) -> Iterator[Finding]:
    if mapping(policy.metadata, "annotations").get("istio.io/dry-run") == "true":
        yield critical(
            "dry-run",
            policy,
            "It is annotated istio.io/dry-run. Up to Istio 1.29 nothing is then checked, and from 1.30 on everything "
            "that it matches is refused.",
            "remove the annotation; `enforce: shadow` in the policy of extauthz tries rules out",
        )


def _exemptions(found: Installation, policy: Manifest) -> Iterator[Finding]:
    """A pattern that ends a path matches below every other path, too; a header is the client's to choose."""
    if provider_of(policy) not in {provider.name for provider in found.ours}:
        return
    for rule in mappings(policy.spec, "rules"):
        for path in (path for target in mappings(rule, "to") for path in texts(target, "operation", "notPaths")):
            if path.startswith("*"):
                yield critical(
                    "exempt-by-suffix",
                    policy,
                    f"It leaves out {path!r}, which every path can be made to end with: such requests are not checked.",
                    "leave out no path here, and open it by a rule with `allow: public`",
                )
        for condition in mappings(rule, "when"):
            if str(condition.get("key", "")).startswith("request.headers"):
                yield critical(
                    "exempt-by-header",
                    policy,
                    f"Whether a request is checked depends on {condition['key']}, which the client chooses.",
                    "remove the condition",
                )


def _choices(found: Installation, policy: Manifest) -> Iterator[Finding]:
    """What the client chooses freely decides whether a request is checked at all."""
    rules = mappings(policy.spec, "rules")
    if provider_of(policy) not in {provider.name for provider in found.ours} or not all(rules):
        return  # an empty rule sends everything
    operations = [mapping(target, "operation") for rule in rules for target in mappings(rule, "to")]
    if any(texts(operation, field) for operation in operations for field in ("hosts", "notHosts")):
        yield critical(
            "exempt-by-host",
            policy,
            "Whether a request is checked depends on the host that it names, and Kubeflow's VirtualServices serve "
            "every host.",
            "leave out hosts and notHosts, and tell hosts apart in the policy of extauthz",
        )
    if _gateway(policy) and any(texts(operation, f) for operation in operations for f in ("methods", "notMethods")):
        yield critical(
            "exempt-by-method",
            policy,
            "Some methods are not checked at the gateway, and servers answer to more of them than they document.",
            "leave out methods and notMethods, and open what must be open by a rule with `allow: public`",
        )


def _ambient(found: Installation, policy: Manifest) -> Iterator[Finding]:
    modes = {item.name: item.labels.get("istio.io/dataplane-mode") for item in found.of("Namespace")}
    if modes.get(policy.namespace) == "ambient" and not policy.spec.get("targetRefs") and not _gateway(policy):
        yield critical(
            "not-enforced-by-ztunnel",
            policy,
            f"The namespace {policy.namespace} is ambient, and ztunnel leaves out CUSTOM policies without a word: "
            "nothing is checked.",
            "bind it to a Service by targetRefs, and let the Service use a waypoint, as istio/overlays/ambient does",
        )


def _gateway(policy: Manifest) -> bool:
    return any("gateway" in value for value in selector(policy).values())


def _egress(found: Installation, policy: Manifest) -> Iterator[Finding]:
    """A sidecar asks only whom its Sidecar object lets it see."""
    provider = found.providers.get(provider_of(policy))
    if provider is None or policy.namespace == found.root or _gateway(policy):
        return
    namespace = provider.host.split(".")[1] if "." in provider.host else ""
    seen = _sidecar(found, policy)
    if seen is None or namespace == policy.namespace:
        return
    hosts = [host for egress in mappings(seen.spec, "egress") for host in texts(egress, "hosts")]
    if not any(host.partition("/")[0] in (namespace, "*") for host in hosts):
        yield critical(
            "provider-out-of-sight",
            seen,
            f"The workloads of {policy} may not see the namespace {namespace}, so their checks find nobody and are "
            "refused.",
            f'add "{namespace}/*" to egress.hosts',
        )


def _sidecar(found: Installation, policy: Manifest) -> Manifest | None:
    """Return the Sidecar object that counts for the workloads of a policy."""
    sidecars = found.of("Sidecar")
    wanted = selector(policy)
    for item in sidecars:
        chosen = text_map(item.spec, "workloadSelector", "labels")
        if item.namespace == policy.namespace and chosen and chosen.items() <= wanted.items():
            return item
    general = [item for item in sidecars if not item.spec.get("workloadSelector")]
    near_ones = [item for item in general if item.namespace == policy.namespace]
    return next(iter([*near_ones, *(item for item in general if item.namespace == found.root)]), None)


def _several(found: Installation) -> Iterator[Finding]:
    for one, other in combinations(found.custom, 2):
        names = provider_of(one), provider_of(other)
        if names[0] == names[1] or not overlap(one, other, found.root):
            continue
        if not _may_have_several(found):
            yield critical(
                "two-providers",
                other,
                f"{one} and this policy send requests of one workload to two providers, {names[0]} and {names[1]}. "
                f"Istio before 1.30, or without {_SEVERAL}=true in istiod, then refuses every request.",
                "leave one of them, as istio/overlays/kubeflow does, or update Istio and set the variable",
            )
        yield from _asked_in_order(found, one, other)


def _asked_in_order(found: Installation, one: Manifest, other: Manifest) -> Iterator[Finding]:
    ours = {provider.name for provider in found.ours}
    names = {provider_of(one), provider_of(other)}
    mine, theirs = names & ours, names - ours
    if mine and theirs and min(mine) < min(theirs):
        yield critical(
            "provider-asked-too-early",
            other if provider_of(other) in mine else one,
            f"Envoy asks providers in the order of their names, so {min(mine)} is asked before {min(theirs)} has "
            "turned a session into a token: browsers are refused.",
            f"give the provider a name that sorts after {min(theirs)}",
        )


def _may_have_several(found: Installation) -> bool:
    if environment(found, _SEVERAL) != "true" or found.istiod is None:
        return False
    images = [str(item.get("image", "")) for item in mappings(pod_spec(found.istiod), "containers")]
    told = [found.istiod.labels.get("app.kubernetes.io/version", ""), *(image.rpartition(":")[2] for image in images)]
    versions = [match for text in told if (match := re.match(r"(\d+)\.(\d+)", text))]
    return not versions or (int(versions[0][1]), int(versions[0][2])) >= _FIRST_WITH_SEVERAL
