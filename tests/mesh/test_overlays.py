"""Every overlay builds, is what the API server takes, names only what is there, and runs settings that load."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from extauthz.cli import app
from tests.mesh import schemas
from tests.mesh.kustomize import ISTIO, OVERLAYS, build
from tests.mesh.references import dangling, name, providers

POLICIES = ISTIO.parent / "policies" / "kubeflow"
MAX_CONFIG_MAP_BYTES = 1024 * 1024
Object = dict[str, Any]


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    """What an overlay applies."""
    return build(ISTIO / "overlays" / request.param)


@pytest.fixture
def everything(tmp_path: Path) -> tuple[Object, ...]:
    """The Kubeflow overlay with the components that are a choice."""
    return _with_components(tmp_path, "consistent-hashing", "monitoring")


def _with_components(folder: Path, *components: str) -> tuple[Object, ...]:
    for part in ("istio", "policies"):
        shutil.copytree(ISTIO.parent / part, folder / part)
    (folder / "mine").mkdir()
    content = {
        "kind": "Kustomization",
        "resources": ["../istio/overlays/kubeflow"],
        "components": [f"../istio/components/{component}" for component in components],
        "sortOptions": {"order": "fifo"},
    }
    (folder / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return build(folder / "mine")


def of(objects: Sequence[Object], kind: str) -> list[Object]:
    """The objects of one kind."""
    return [found for found in objects if found["kind"] == kind]


def test_objects_fit_their_schemas(objects: tuple[Object, ...]) -> None:
    """The API server takes every object, and drops no field of it."""
    for found in objects:
        schemas.check(found)


def test_components_that_are_a_choice_fit_too(everything: tuple[Object, ...]) -> None:
    """Monitoring and consistent hashing can be added to an overlay."""
    for found in everything:
        schemas.check(found)
    assert {"PodMonitor", "PrometheusRule", "EnvoyFilter"} <= {found["kind"] for found in everything}
    assert dangling(everything) == []


def test_a_misspelt_field_is_noticed() -> None:
    """The schemas are closed: a field that nobody knows is an error, in Kubernetes' kinds and in Istio's."""
    for kind in ("Service", "AuthorizationPolicy", "DestinationRule"):
        found = copy.deepcopy(of(build(ISTIO / "overlays" / "kubeflow"), kind)[0])
        found["spec"]["misspelt"] = 1
        with pytest.raises(schemas.INVALID, match="misspelt"):
            schemas.check(found)


def test_mesh_configuration_is_istios(objects: tuple[Object, ...]) -> None:
    """Every key of the mesh configuration is one that Istio knows, and every provider is safe."""
    for found in of(objects, "ConfigMap"):
        if "mesh" in found["data"]:
            schemas.check_mesh_config(yaml.safe_load(found["data"]["mesh"]))
    for provider in providers(objects).values():
        (settings,) = (value for key, value in provider.items() if key != "name")
        assert (settings["failOpen"], settings["statusOnError"], settings["timeout"]) == (False, "503", "2s")
        assert settings["includeRequestBodyInCheck"]["allowPartialMessage"]
        assert provider["name"] > "oauth2-proxy"
    names = sorted(providers(objects))
    assert not any(other.startswith(name) for name in names for other in names if other != name)


def test_nothing_dangles(objects: tuple[Object, ...]) -> None:
    """Names, selectors, ports, accounts and providers lead somewhere, in the order of application."""
    assert dangling(objects) == []


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("ServiceAccount", lambda found: found["metadata"].update(name="other"), "ServiceAccount extauthz"),
        ("Service", lambda found: found["spec"]["ports"][0].update(port=1), "asks extauthz"),
        ("Service", lambda found: found["spec"]["ports"][0].update(targetPort="x"), "nobody opens"),
        ("Service", lambda found: found["spec"].update(selector={"x": "y"}), "selects no pod"),
        ("DestinationRule", lambda found: found["spec"].update(host="x"), "is about x"),
        ("ConfigMap", lambda found: found["metadata"].update(name="x"), "needs ConfigMap"),
        ("HorizontalPodAutoscaler", lambda found: found["spec"]["scaleTargetRef"].update(name="x"), "scales x"),
        ("Namespace", lambda found: found["metadata"].update(name="x"), "before its namespace"),
    ],
)
def test_what_dangles_is_found(kind: str, change: Any, told: str) -> None:
    """Each reference that is broken on purpose is told."""
    objects = copy.deepcopy(build(ISTIO / "overlays" / "kubeflow"))
    change(of(objects, kind)[0])
    assert any(told in sentence for sentence in dangling(objects))


def test_what_opens_is_never_applied_first() -> None:
    """The policy that admits the gateway everywhere comes after the one that guards the gateway."""
    objects = list(build(ISTIO / "overlays" / "kubeflow"))
    assert "opens the mesh" in "".join(dangling([objects[0], objects[-1], *objects[1:-1]]))


def test_settings_and_policies_load_as_mounted(objects: tuple[Object, ...], tmp_path: Path) -> None:
    """What a pod finds in its volumes is valid, as `extauthz validate` sees it."""
    maps = {found["metadata"]["name"]: found["data"] for found in of(objects, "ConfigMap")}
    for deployment in of(objects, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        names = {volume["name"]: volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
        folder = tmp_path / deployment["metadata"]["name"]
        for mount in pod["containers"][0]["volumeMounts"]:
            if mount["name"] in names:
                target = folder / mount["mountPath"].lstrip("/")
                target.mkdir(parents=True)
                for key, text in maps[names[mount["name"]]].items():
                    (target / key).write_text(text.replace("/etc/extauthz", str(folder / "etc/extauthz")))
        config = folder / pod["containers"][0]["args"][-1].lstrip("/")
        done = CliRunner().invoke(app, ["validate", str(config)])
        assert done.exit_code == 0, done.output


def test_settings_agree_with_the_provider(objects: tuple[Object, ...]) -> None:
    """Bodies, prefix and deadline are the same on both sides of a check."""
    settings = {found["metadata"]["name"]: yaml.safe_load(found["data"]["settings.yaml"])
                for found in of(objects, "ConfigMap") if "settings.yaml" in found["data"]}  # fmt: skip
    for content in settings.values():
        assert content.get("body", {}).get("maxRequestBytes", 65536) == 65536
        assert content.get("deadlineSeconds", 1.8) < 2
        if content["listeners"]["http"]:
            assert content["listeners"]["http"]["pathPrefix"] == "/check"


def test_the_config_map_holds_every_policy(objects: tuple[Object, ...]) -> None:
    """No file of the shipped policy is forgotten, and together they fit into a ConfigMap."""
    (policies,) = (found for found in of(objects, "ConfigMap") if found["metadata"]["name"] == "extauthz-policies")
    assert policies["data"] == {file.name: file.read_text() for file in POLICIES.glob("*.yaml")}
    assert sum(len(key) + len(text.encode()) for key, text in policies["data"].items()) < MAX_CONFIG_MAP_BYTES / 2


def test_pods_are_confined(objects: tuple[Object, ...]) -> None:
    """No root, no writable disk, no capability, and no pod that stops before Envoy has forgotten it."""
    for deployment in of(objects, "Deployment"):
        spec = deployment["spec"]
        pod, (container,) = spec["template"]["spec"], spec["template"]["spec"]["containers"]
        assert pod["enableServiceLinks"] is False, "EXTAUTHZ_SERVICE_HOST would be read as a setting"
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all(mount["readOnly"] for mount in container["volumeMounts"])
        assert "replicas" not in spec, "the autoscaler's to say"
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > pause + 5 > 15
        probes = [container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
        assert probes == ["admin"] * 3


def test_one_pod_is_never_all(objects: tuple[Object, ...]) -> None:
    """There are two pods at least, never two gone at once, and not on one node where that can be."""
    kinds = ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service")
    names = [sorted(found["metadata"]["name"] for found in of(objects, kind)) for kind in kinds]
    assert all(found == names[0] for found in names)
    for found in of(objects, "HorizontalPodAutoscaler"):
        assert found["spec"]["minReplicas"] >= 2
    for found in of(objects, "PodDisruptionBudget"):
        assert found["spec"]["maxUnavailable"] == 1
    for found in of(objects, "Deployment"):
        spread = found["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {item["topologyKey"] for item in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


def test_the_guard_watches_all_it_needs_and_writes_nothing() -> None:
    """The ClusterRole creates reviews and nothing else; everything else is read."""
    (role,) = of(build(ISTIO / "overlays" / "kubeflow"), "ClusterRole")
    written = {resource for rule in role["rules"] if "create" in rule["verbs"] for resource in rule["resources"]}
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    assert written == {"subjectaccessreviews", "tokenreviews"}
    assert verbs == {"create", "get", "list", "watch"}


def test_the_swap_at_the_gateway_is_one_object() -> None:
    """On Istio 1.29 our policy has the name of oauth2-proxy's, so that there are never two providers, nor none."""
    custom = [found for found in of(build(ISTIO / "overlays" / "kubeflow"), "AuthorizationPolicy")
              if found["spec"].get("action") == "CUSTOM"]  # fmt: skip
    assert [name(found) for found in custom] == ["AuthorizationPolicy istio-system/istio-ingressgateway-oauth2-proxy"]
    assert custom[0]["spec"]["rules"] == [{}]


def test_a_kubeflow_checkout_can_patch_istiod(tmp_path: Path) -> None:
    """The component for whoever renders istiod sets one variable and leaves the others alone."""
    shutil.copytree(ISTIO / "components" / "istiod", tmp_path / "istiod")
    container = {"name": "discovery", "image": "pilot", "env": [{"name": "PILOT_X", "value": "1"}]}
    istiod = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "istiod", "namespace": "istio-system"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}},
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "istiod.yaml").write_text(yaml.safe_dump(istiod))
    content = {"kind": "Kustomization", "resources": ["istiod.yaml"], "components": ["../istiod"]}
    (tmp_path / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(content))
    (built,) = build(tmp_path / "mine")
    env = {item["name"]: item["value"] for item in built["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env == {"PILOT_X": "1", "SHARED_MESH_CONFIG": "extauthz-mesh"}


@pytest.mark.parametrize("folder", sorted(path.parent for path in ISTIO.rglob("kustomization.yaml")))
def test_no_file_is_left_over(folder: Path) -> None:
    """Every YAML file of the kit is used by the kustomization beside it."""
    told = (folder / "kustomization.yaml").read_text()
    for file in (*folder.glob("*.yaml"), *folder.glob("*.json")):
        assert file.name == "kustomization.yaml" or file.name in told, file
