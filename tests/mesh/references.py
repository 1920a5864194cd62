"""Finds what would dangle once the objects of a kustomization are applied, in their order.

What Kubeflow and Istio bring themselves is named below and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

Object = Mapping[str, Any]

KUBEFLOW_NAMESPACES = {"auth", "istio-system", "kubeflow", "oauth2-proxy"}
KUBEFLOW_LABELS = (
    {"app": "dex"},
    {"app": "istio-ingressgateway"},
    {"app": "ml-pipeline"},
    {"app": "ml-pipeline-ui"},
    {"app.kubernetes.io/name": "oauth2-proxy"},
)
KUBEFLOW_ACCOUNTS = {
    ("istio-system", "istio-ingressgateway-service-account"),
    *(("kubeflow", name) for name in ("*", "ml-pipeline", "ml-pipeline-ui", "waypoint")),
}
KUBEFLOW_SERVICES = {("kubeflow", "ml-pipeline")}
PROVIDERS = ("envoyExtAuthzGrpc", "envoyExtAuthzHttp")


def dangling(objects: Sequence[Object]) -> list[str]:
    """Return a sentence for everything that names what is not there, or not yet."""
    return [*_order(objects), *_pods(objects), *_selectors(objects), *_services(objects), *_meshes(objects)]


def providers(objects: Iterable[Object]) -> dict[str, dict[str, Any]]:
    """Return the extension providers of the mesh configuration, by name."""
    meshes = [yaml.safe_load(found["data"]["mesh"]) for found in objects if "mesh" in (found.get("data") or {})]
    return {provider["name"]: provider for mesh in meshes for provider in mesh["extensionProviders"]}


def name(found: Object) -> str:
    """Name an object for people."""
    return f"{found['kind']} {found['metadata'].get('namespace', '')}/{found['metadata']['name']}"


def _of(objects: Iterable[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


def _key(found: Object) -> tuple[str, str]:
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]


def _order(objects: Sequence[Object]) -> Iterator[str]:
    """What an object needs at the moment it is applied comes before it."""
    namespaces, known, guarded = set(KUBEFLOW_NAMESPACES), set[str](), False
    for found in objects:
        namespace = found["metadata"].get("namespace", "")
        if namespace and namespace not in namespaces:
            yield f"{name(found)} comes before its namespace"
        if found["kind"] == "Namespace":
            namespaces.add(found["metadata"]["name"])
        known.update(providers([found]))
        spec = found.get("spec") or {}
        if found["kind"] == "AuthorizationPolicy" and spec.get("action") == "CUSTOM":
            if spec["provider"]["name"] not in known:
                yield f"{name(found)} names the provider {spec['provider']['name']}, which is not defined before it"
            guarded = guarded or namespace == "istio-system"
        elif found["kind"] == "AuthorizationPolicy" and namespace == "istio-system" and not guarded:
            yield f"{name(found)} opens the mesh before the gateway is guarded"


def _pods(objects: Sequence[Object]) -> Iterator[str]:
    known = {(found["kind"], *_key(found)) for found in objects}
    applied: set[tuple[str, str, str]] = set()
    for found in objects:
        applied.add((found["kind"], *_key(found)))
        if found["kind"] == "Deployment":
            for kind, needed in _needs(found["spec"]["template"]["spec"]):
                if (kind, found["metadata"]["namespace"], needed) not in applied:
                    yield f"{name(found)} needs {kind} {needed}, which is not there before it"
        if found["kind"] == "HorizontalPodAutoscaler":
            target = found["spec"]["scaleTargetRef"]
            if (target["kind"], found["metadata"]["namespace"], target["name"]) not in known:
                yield f"{name(found)} scales {target['name']}, which is not there"
        if found["kind"] == "ClusterRoleBinding":
            yield from _binding(found, applied)


def _needs(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", pod["serviceAccountName"]
    for volume in pod["volumes"]:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]


def _binding(found: Object, applied: set[tuple[str, str, str]]) -> Iterator[str]:
    if ("ClusterRole", "", found["roleRef"]["name"]) not in applied:
        yield f"{name(found)} names a ClusterRole that is not there"
    for subject in found["subjects"]:
        if ("ServiceAccount", subject["namespace"], subject["name"]) not in applied:
            yield f"{name(found)} names a ServiceAccount that is not there"


def _selectors(objects: Sequence[Object]) -> Iterator[str]:
    pods = [(found["metadata"]["namespace"], _labels(found)) for found in _of(objects, "Deployment")]
    for found in _of(objects, "Deployment", "Service", "PodDisruptionBudget", "PodMonitor", "NetworkPolicy"):
        wanted = _wanted(found)
        known = [labels for namespace, labels in pods if namespace == found["metadata"]["namespace"]]
        if not wanted or not any(wanted.items() <= labels.items() for labels in (*known, *KUBEFLOW_LABELS)):
            yield f"{name(found)} selects no pod: {wanted}"
    for found in _of(objects, "AuthorizationPolicy", "Sidecar", "EnvoyFilter"):
        wanted = _wanted(found)
        if wanted and not any(wanted.items() <= labels.items() for labels in (*(p[1] for p in pods), *KUBEFLOW_LABELS)):
            yield f"{name(found)} selects no workload: {wanted}"


def _labels(deployment: Object) -> dict[str, str]:
    return dict(deployment["spec"]["template"]["metadata"]["labels"])


def _wanted(found: Object) -> dict[str, str]:
    spec = found["spec"]
    selector = spec.get("selector") or spec.get("podSelector") or spec.get("workloadSelector") or {}
    return dict(selector.get("matchLabels", selector.get("labels", selector)))


def _services(objects: Sequence[Object]) -> Iterator[str]:
    """Ports lead somewhere, and each service leads to the pods of one instance."""
    deployments = _of(objects, "Deployment")
    for found in _of(objects, "Service"):
        chosen = [pods for pods in deployments if _wanted(found).items() <= _labels(pods).items()]
        if len(chosen) != 1:
            yield f"{name(found)} leads to {len(chosen)} deployments"
        ports = {port["name"] for pods in chosen for port in pods["spec"]["template"]["spec"]["containers"][0]["ports"]}
        yield from (
            f"{name(found)} leads to the port {port['targetPort']}, which nobody opens"
            for port in found["spec"]["ports"]
            if port["targetPort"] not in ports
        )
    for found in _of(objects, "PodMonitor"):
        opened = {
            port["name"] for pods in deployments for port in pods["spec"]["template"]["spec"]["containers"][0]["ports"]
        }
        for endpoint in found["spec"]["podMetricsEndpoints"]:
            if endpoint["port"] not in opened:
                yield f"{name(found)} scrapes a port that nobody opens"


def _meshes(objects: Sequence[Object]) -> Iterator[str]:
    services = {
        f"{found['metadata']['name']}.{found['metadata']['namespace']}.svc.cluster.local": found
        for found in _of(objects, "Service")
    }
    for provider, definition in providers(objects).items():
        for settings in (definition[kind] for kind in PROVIDERS if kind in definition):
            service = services.get(settings["service"])
            if not service or settings["port"] not in {port["port"] for port in service["spec"]["ports"]}:
                yield f"provider {provider} asks {settings['service']}:{settings['port']}, which is no service"
    for found in _of(objects, "DestinationRule"):
        if found["spec"]["host"] not in services:
            yield f"{name(found)} is about {found['spec']['host']}, which is no service"
    yield from _principals(objects)


def _principals(objects: Sequence[Object]) -> Iterator[str]:
    accounts = KUBEFLOW_ACCOUNTS | {_key(found) for found in _of(objects, "ServiceAccount")}
    for found in _of(objects, "AuthorizationPolicy"):
        for target in found["spec"].get("targetRefs", ()):
            if (found["metadata"]["namespace"], target["name"]) not in KUBEFLOW_SERVICES:
                yield f"{name(found)} is bound to {target['name']}, which is not there"
        for rule in found["spec"]["rules"]:
            for source in (origin["source"] for origin in rule.get("from", ())):
                for principal in (*source.get("principals", ()), *source.get("notPrincipals", ())):
                    _, _, namespace, _, account = principal.split("/")
                    if (namespace, account) not in accounts:
                        yield f"{name(found)} names {principal}, which is nobody"
