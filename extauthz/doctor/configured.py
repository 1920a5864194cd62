"""extauthz's own settings: whether they load, and whether what they name can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from extauthz.doctor.fields import Fields, mapping, mappings, text_map, texts
from extauthz.doctor.finding import Finding, critical
from extauthz.doctor.installation import Installation
from extauthz.doctor.manifests import Manifest
from extauthz.document import parse
from extauthz.errors import ConfigurationError
from extauthz.settings import Settings

_NAMESPACE = "kubernetes.io/metadata.name"
_ANYBODY: Fields = {}


def examine(found: Installation) -> Iterator[Finding]:
    """Yield the faults of each settings file, and of what is in shadow."""
    yield from _shadows(found)
    for where, settings in found.settings.values():
        if isinstance(settings, Settings):
            yield from _gateways_as_peers(where, settings)
            for what, url in _asked(settings):
                yield from _unreachable(found, where, what, url)
            continue
        for problem in settings.problems:
            place = f"line {problem.line}: " if problem.line else ""
            fix = problem.hint or "correct it, and try it with `extauthz validate`"
            what = f"The settings do not load, so no pod becomes ready: {place}{problem.message}."
            yield critical("settings-invalid", where, what, fix)


def _shadows(found: Installation) -> Iterator[Finding]:
    for held in found.of("ConfigMap"):
        for key, text in text_map(held.data, "data").items():
            if "extauthz.dev/" in text and "kind: Shadow" in text and _covers_everything(text, Path(key)):
                yield critical(
                    "everything-in-shadow",
                    held,
                    f"{key} puts every rule in shadow: nobody is refused for lack of rights.",
                    "remove the file once the log shows no refusal that should not be",
                )


def _covers_everything(text: str, name: Path) -> bool:
    try:
        return any(mapping(part.data).get("everything") is True for part in parse(text.encode(), name))
    except ConfigurationError:
        return False  # a policy that does not load is another matter


def _gateways_as_peers(where: Manifest, settings: Settings) -> Iterator[Finding]:
    peers = settings.identity.peer.principals if settings.identity.peer else []
    for principal in (principal for principal in peers if "gateway" in principal.rpartition("/")[2]):
        yield critical(
            "peer-is-gateway",
            where,
            f"identity.peer names {principal}. At a sidecar everybody who comes through that gateway is taken for its "
            "ServiceAccount, without a token.",
            "name only workloads that ask on their own behalf",
        )


def _asked(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what the service asks over the network, and where."""
    for issuer in settings.identity.jwt:
        if url := issuer.keys.url or (issuer.issuer if issuer.keys.discovery else None):
            yield f"for the keys of {issuer.issuer} (no token of it can be verified)", url
    if settings.identity.session:
        yield "oauth2-proxy about sessions (no browser is logged in)", settings.identity.session.url
    if settings.lookups.kfp:
        yield (
            "the pipelines API about owners (requests that name an object by its id get 503)",
            settings.lookups.kfp.url,
        )


def _unreachable(found: Installation, where: Manifest, what: str, url: str) -> Iterator[Finding]:
    """A host in the cluster whose namespace's NetworkPolicies let in nobody from ours."""
    host = (urlsplit(url).hostname or "").split(".")
    if len(host) < 3 or host[2] != "svc" or host[1] == where.namespace:
        return
    name, namespace = host[:2]
    policies = [item for item in found.of("NetworkPolicy") if item.namespace == namespace and _is_about(item, name)]
    if policies and not any(_admits(item, where.namespace) for item in policies):
        yield critical(
            "unreachable",
            where,
            f"{policies[0]} and the other NetworkPolicies of {namespace} do not let {where.namespace} reach {url}, so "
            f"extauthz cannot ask {what}.",
            "apply istio/components/login and istio/components/lookups, which admit it",
        )


def _is_about(policy: Manifest, service: str) -> bool:
    """Tell whether a NetworkPolicy counts for the pods of a service: Kubeflow's are labelled with its name."""
    values = list(text_map(policy.spec, "podSelector", "matchLabels").values())
    values += [
        value for each in mappings(policy.spec, "podSelector", "matchExpressions") for value in texts(each, "values")
    ]
    is_ingress = "Ingress" in (texts(policy.spec, "policyTypes") or ("Ingress",))
    return is_ingress and (not mapping(policy.spec, "podSelector") or service in values)


def _admits(policy: Manifest, namespace: str) -> bool:
    origins = [origin for rule in mappings(policy.spec, "ingress") for origin in mappings(rule, "from") or [_ANYBODY]]
    return any(_matches(origin, namespace) for origin in origins)


def _matches(origin: Fields, namespace: str) -> bool:
    if not origin:
        return True
    if "namespaceSelector" not in origin:
        return False
    chosen = mapping(origin, "namespaceSelector")
    if any(
        e.get("key") == _NAMESPACE and namespace in texts(e, "values") for e in mappings(chosen, "matchExpressions")
    ):
        return True
    return not chosen or text_map(chosen, "matchLabels") == {_NAMESPACE: namespace}
