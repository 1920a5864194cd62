"""Everything that is known of an installation, and how its parts belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from extauthz import document
from extauthz.doctor.fields import mapping, mappings, text_map
from extauthz.doctor.manifests import Manifest
from extauthz.errors import ConfigurationError
from extauthz.settings import Settings

NAME = "app.kubernetes.io/name"
KINDS = ("envoyExtAuthzGrpc", "envoyExtAuthzHttp")
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Provider:
    """An ext_authz provider of the mesh configuration; `where` is the ConfigMap that defines it."""

    name: str
    is_grpc: bool
    fields: Mapping[str, Any]
    where: Manifest

    @property
    def host(self) -> str:
        """The service that is asked, without the `namespace/` that may stand before it."""
        return str(self.fields.get("service", "")).rpartition("/")[2]


class Installation:
    """The objects that were given or read. Of two with one name the later counts, as where both are applied."""

    def __init__(self, objects: Iterable[Manifest]) -> None:
        self.objects = tuple({(found.kind, found.namespace, found.name): found for found in objects}.values())

    def of(self, *kinds: str) -> list[Manifest]:
        """Return the objects of some kinds."""
        return [found for found in self.objects if found.kind in kinds]

    @cached_property
    def pods(self) -> list[Manifest]:
        """The deployments of extauthz."""
        return [found for found in self.of("Deployment") if found.labels.get(NAME) == "extauthz"]

    @cached_property
    def istiod(self) -> Manifest | None:
        """istiod's deployment, if it is among the objects."""
        return next((found for found in self.of("Deployment") if found.labels.get("app") == "istiod"), None)

    @cached_property
    def meshes(self) -> list[tuple[Manifest, Mapping[str, Any]]]:
        """The mesh configurations, each with the ConfigMap that holds it."""
        held = [(found, mapping(found.data, "data").get("mesh")) for found in self.of("ConfigMap")]
        return [(found, _yaml(text)) for found, text in held if isinstance(text, str)]

    @cached_property
    def providers(self) -> dict[str, Provider]:
        """Every ext_authz provider by name. What Istio's own configuration says comes last, and counts."""
        found: dict[str, Provider] = {}
        for where, mesh in sorted(self.meshes, key=lambda item: item[0].name == "istio"):
            for item in mappings(mesh, "extensionProviders"):
                for kind in KINDS:
                    if isinstance(item.get(kind), dict):
                        name = str(item.get("name", ""))
                        found[name] = Provider(name, kind == KINDS[0], item[kind], where)
        return found

    @cached_property
    def ours(self) -> list[Provider]:
        """The providers that ask extauthz."""
        return [provider for provider in self.providers.values() if self.is_ours(provider)]

    def is_ours(self, provider: Provider) -> bool:
        """Tell whether a provider asks extauthz: by its service, or by its name where that is not there."""
        service = self.service(provider.host)
        named = "extauthz" in provider.host.split(".")[0]
        return named if service is None or not self.pods else self.deployment(service) is not None

    @cached_property
    def custom(self) -> list[Manifest]:
        """The policies that send requests to a provider."""
        return [found for found in self.of("AuthorizationPolicy") if found.spec.get("action") == "CUSTOM"]

    @cached_property
    def root(self) -> str:
        """The root namespace, whose policies count everywhere."""
        return next((str(mesh["rootNamespace"]) for _, mesh in self.meshes if "rootNamespace" in mesh), "istio-system")

    def service(self, host: str) -> Manifest | None:
        """Return the service of a host name, if it is among the objects."""
        name, _, rest = host.partition(".")
        namespace = rest.partition(".")[0]
        return next((s for s in self.of("Service") if (s.name, s.namespace) == (name, namespace)), None)

    def deployment(self, service: Manifest) -> Manifest | None:
        """Return the deployment of extauthz that a service leads to."""
        wanted = text_map(service.spec, "selector")
        for found in self.pods:
            has = text_map(found.spec, "template", "metadata", "labels")
            if found.namespace == service.namespace and wanted and wanted.items() <= has.items():
                return found
        return None

    @cached_property
    def settings(self) -> dict[tuple[str, str], tuple[Manifest, Settings | ConfigurationError]]:
        """The settings files in ConfigMaps, by namespace and name; those that do not load as their error."""
        found: dict[tuple[str, str], tuple[Manifest, Settings | ConfigurationError]] = {}
        for held in self.of("ConfigMap"):
            for key, text in text_map(held.data, "data").items():
                if "extauthz.dev/" in text and "\nkind: Settings" in f"\n{text}":
                    found[held.namespace, held.name] = held, _settings(text, Path(key))
        return found

    def settings_of(self, provider: Provider) -> tuple[Manifest, Settings] | None:
        """Return the settings of the pods that a provider asks, as far as they are known."""
        service = self.service(provider.host)
        pods = self.deployment(service) if service else None
        for volume in mappings(pod_spec(pods), "volumes") if pods else ():
            held = self.settings.get((pods.namespace, str(mapping(volume, "configMap").get("name")))) if pods else None
            if held and isinstance(held[1], Settings):
                return held[0], held[1]
        return None


def pod_spec(deployment: Manifest) -> Mapping[str, Any]:
    """Return the pods' spec of a deployment."""
    return mapping(deployment.spec, "template", "spec")


def selector(policy: Manifest) -> Labels:
    """Return which workloads a policy is about; empty means all."""
    return text_map(policy.spec, "selector", "matchLabels")


def overlap(one: Manifest, other: Manifest, root: str) -> bool:
    """Tell whether two policies can be about one workload."""
    near = one.namespace == other.namespace or root in (one.namespace, other.namespace)
    if one.spec.get("targetRefs") or other.spec.get("targetRefs"):
        return near and one.spec.get("targetRefs") == other.spec.get("targetRefs")
    few, many = sorted((selector(one), selector(other)), key=len)
    return near and few.items() <= many.items()


def _yaml(text: str) -> Mapping[str, Any]:
    try:
        data = document.parse(text.encode(), Path("mesh"))[0].data
    except ConfigurationError:
        return {}
    return data if isinstance(data, dict) else {}


def _settings(text: str, name: Path) -> Settings | ConfigurationError:
    try:
        return document.parse(text.encode(), name)[0].validate(Settings)
    except ConfigurationError as error:
        return error
