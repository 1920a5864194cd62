"""What the installation guide tells people to do is what the kit needs, and what it takes away is all of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from extauthz import doctor
from extauthz.doctor import manifests
from extauthz.doctor.manifests import Manifest
from tests.cases import DATA
from tests.mesh import schemas
from tests.mesh.kustomize import ISTIO, OVERLAYS, build
from tests.mesh.references import dangling

DOCS = ISTIO.parent / "docs"
INSTALL, PLACEMENT = (DOCS / "install.md").read_text(), (DOCS / "placement.md").read_text()
SWAPPED = ("istio-system", "AuthorizationPolicy", "istio-ingressgateway-oauth2-proxy")
CREATED_WITH_THE_NAMESPACE = "extauthz"


def block(text: str, kind: str) -> str:
    """The first code block of a kind."""
    found = re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


def test_a_kustomization_of_ones_own(tmp_path: Path) -> None:
    """The example builds beside the kit, has no fault, and runs the image that it names."""
    for part in ("istio", "policies"):
        shutil.copytree(ISTIO.parent / part, tmp_path / part)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(block(INSTALL, "yaml"))
    objects = build(tmp_path / "mine")
    assert dangling(objects) == []
    assert doctor.examine(map(Manifest, objects)) == []
    images = [
        container["image"]
        for found in objects
        if found["kind"] == "Deployment"
        for container in found["spec"]["template"]["spec"]["containers"]
    ]
    assert images == ["registry.example.com/extauthz:0.1.0"]


def test_taking_it_out_leaves_nothing() -> None:
    """Each object of the overlay is deleted, goes with its namespace, or is put back as it was."""
    commands = re.findall(r"^kubectl (?:-n (\S+) )?delete (\w+) (.+)$", INSTALL, re.MULTILINE)
    deleted = {(namespace, kind, name) for namespace, kind, names in commands for name in names.split()}
    for found in build(ISTIO / "overlays" / "kubeflow"):
        namespace, name = found["metadata"].get("namespace", ""), found["metadata"]["name"]
        if namespace != CREATED_WITH_THE_NAMESPACE and (namespace, found["kind"], name) != SWAPPED:
            assert (namespace, found["kind"].lower(), name) in deleted


def test_what_opens_goes_first() -> None:
    """The policy that relies on extauthz is deleted before anything that it relies on."""
    (first, *_) = re.findall(r"^kubectl .*delete (.+)$", INSTALL, re.MULTILINE)
    assert first == "authorizationpolicy extauthz-decided-at-gateway"


def test_every_overlay_is_told() -> None:
    """The table of overlays lists all there are, and no other."""
    assert sorted(re.findall(r"^\| `([a-z-]+)` \| ", INSTALL, re.MULTILINE)) == OVERLAYS


@pytest.mark.parametrize("text", [INSTALL, PLACEMENT, (ISTIO.parent / "README.md").read_text()])
def test_every_path_is_there(text: str) -> None:
    """Files and folders of the kit that are named exist."""
    for path in re.findall(r"istio/[a-z][a-z/.-]*[a-z]", text):
        if path.split("/")[1] in ("base", "components", "overlays"):
            assert (ISTIO.parent / path).exists(), path


def test_the_policy_for_profiles_closes_them() -> None:
    """The example is one that Istio takes, and doctor finds nothing open after it."""
    policy = yaml.safe_load(block(PLACEMENT, "yaml"))
    schemas.check(policy)
    open_paths = manifests.read([DATA / "doctor" / "direct-access-to-profiles.yaml"])
    assert doctor.examine(open_paths)
    assert doctor.examine([*open_paths, Manifest(policy)]) == []
