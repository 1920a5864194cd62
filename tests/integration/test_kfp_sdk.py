"""The real `kfp` SDK, first straight against the stub KFP, then through a real Envoy with the shipped policy."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from extauthz.demo import HOST
from extauthz.demo.mesh import DemoMesh
from tests.clients import kfp_sdk
from tests.clients.kfp_sdk import Outcome
from tests.issuer import Issuer, rsa_key
from tests.kubeflow.server import Kubeflow
from tests.oauth2proxy import COOKIE, OAuth2Proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODES = ["grpc", "http"]
ROBOT = "system:serviceaccount:team-a:default-editor"
DEX = Issuer("https://dex.example", keys=[rsa_key("dex")])
CLUSTER = Issuer("https://kubernetes.default.svc", "pipelines.kubeflow.org", [rsa_key("cluster")])
UNSCOPED = {"get_pipeline_id_by_name", "list_shared_pipelines"}
"""Steps where the SDK names no namespace."""
HARMLESS = {"healthz", *UNSCOPED}
"""Steps that everybody may do who is logged in: what is the same for all, and the shared pipelines."""


@pytest_asyncio.fixture(loop_scope="session")
async def kubeflow() -> AsyncIterator[Kubeflow]:
    """A stub Kubeflow without objects."""
    async with Kubeflow() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def proxy() -> AsyncIterator[OAuth2Proxy]:
    """An oauth2-proxy without sessions."""
    async with OAuth2Proxy() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def kfp_mesh(kubeflow: Kubeflow, proxy: OAuth2Proxy, tmp_path: Path) -> AsyncIterator[DemoMesh]:
    """A mesh with the shipped policy at the ingress gateway, and the stub Kubeflow behind it."""
    async with _mesh(kubeflow, proxy, tmp_path, "gateway", kubeflow.port) as running:
        yield running


def _mesh(kubeflow: Kubeflow, proxy: OAuth2Proxy, tmp_path: Path, placement: str, upstream: int) -> DemoMesh:
    """Return a mesh that looks namespaces up in the stub, and knows users, sessions and pods."""
    (tmp_path / "token").write_text("extauthz-own-token")
    lookup = {"url": f"http://{HOST}:{kubeflow.api_port}", "tokenFile": str(tmp_path / "token")}
    users = {"claims": {"user": "email"}, **_issuer(DEX, tmp_path / "dex.json")}
    robots = {"serviceAccounts": True, **_issuer(CLUSTER, tmp_path / "cluster.json")}
    identity = {"jwt": [users, robots], "session": {"url": proxy.url, "cookie": COOKIE}}
    settings = {"lookups": {"kfp": lookup}, "identity": identity, "policy": {"placement": placement}}
    return DemoMesh(tmp_path / "mesh", settings=settings, envoy={"upstream_port": upstream})


def _issuer(issuer: Issuer, file: Path) -> dict[str, Any]:
    file.write_bytes(issuer.jwks())
    return {"issuer": issuer.name, "audiences": [issuer.audience], "keys": {"file": str(file)}}


def _token(user: str) -> str:
    """Return what Dex gives a user."""
    return DEX.token(email=f"{user}@example.com", **_today())


def _robot_token() -> str:
    """Return what kubelet projects into a pod of ROBOT for KFP."""
    _, _, namespace, name = ROBOT.split(":")
    account = {"namespace": namespace, "serviceaccount": {"name": name, "uid": "u1"}}
    return CLUSTER.token(sub=ROBOT, **{"kubernetes.io": account}, **_today())


def _today() -> dict[str, Any]:
    now = int(time.time())
    return {"iat": now, "nbf": now, "exp": now + 600}


async def _work(mesh: DemoMesh, mode: str, **task: Any) -> Outcome:
    return await kfp_sdk.work(f"{mesh.urls[mode]}/pipeline", **task)


def _objects(kubeflow: Kubeflow, namespace: str = "team-a") -> dict[str, str]:
    """Create one object of each kind; returns their ids under the SDK's names."""
    store = kubeflow.store
    experiment = store.add("experiment", namespace, "mine")
    pipeline = store.add("pipeline", namespace, "doubling")
    return {
        "experiment_id": experiment.id,
        "pipeline_id": pipeline.id,
        "pipeline_version_id": store.add("pipeline_version", namespace, "first", pipeline.id).id,
        "run_id": store.add("run", namespace, "a run", experiment.id, state="SUCCEEDED").id,
        "recurring_run_id": store.add("job", namespace, "nightly", experiment.id).id,
    }


async def test_recorded_requests_are_what_the_sdk_sends(kubeflow: Kubeflow) -> None:
    """The requests that the policy was written against are those of the SDK that is installed."""
    outcome = await kfp_sdk.work(f"http://{HOST}:{kubeflow.port}/pipeline", token="none")
    assert outcome.refused == {}
    assert kfp_sdk.recorded(kubeflow.calls, outcome.ids) == json.loads(kfp_sdk.RECORDED.read_text())


@pytest.mark.parametrize("mode", MODES)
async def test_the_owner_works_undisturbed(kfp_mesh: DemoMesh, kubeflow: Kubeflow, mode: str) -> None:
    """Alice lists, uploads, runs, schedules and deletes; the upstream sees her name on everything."""
    outcome = await _work(kfp_mesh, mode, token=_token("alice"))
    assert outcome.refused == {}
    assert {call.user for call in kubeflow.calls} == {"alice@example.com"}
    assert {namespace for _, namespace in kubeflow.api.done} <= {"team-a", ""}


async def test_a_service_account_works_undisturbed(kfp_mesh: DemoMesh, kubeflow: Kubeflow, tmp_path: Path) -> None:
    """A pod's own token, read from its volume by the SDK's credentials, may do what its account may."""
    (tmp_path / "projected").write_text(_robot_token())
    outcome = await _work(kfp_mesh, "grpc", token_file=str(tmp_path / "projected"))
    assert outcome.refused == {}
    assert {call.user for call in kubeflow.calls} == {ROBOT}


async def test_a_pod_works_at_the_apis_own_sidecar(kubeflow: Kubeflow, proxy: OAuth2Proxy, tmp_path: Path) -> None:
    """The same work passes where a pod of the cluster does it: at `ml-pipeline`, without the gateway's prefix."""
    (tmp_path / "projected").write_text(_robot_token())
    async with _mesh(kubeflow, proxy, tmp_path, "ml-pipeline", kubeflow.api_port) as mesh:
        outcome = await kfp_sdk.work(mesh.urls["grpc"], token_file=str(tmp_path / "projected"))
    assert outcome.refused.keys() == {"get_artifact"}  # a path of the UI server
    assert {namespace for _, namespace in kubeflow.api.done} <= {"team-a", ""}


@pytest.mark.parametrize("mode", MODES)
async def test_a_browsers_cookie_works(kfp_mesh: DemoMesh, kubeflow: Kubeflow, proxy: OAuth2Proxy, mode: str) -> None:
    """The SDK with the session cookie of alice's browser does all that alice may."""
    proxy.sessions["one"] = _token("alice")
    outcome = await _work(kfp_mesh, mode, cookies=f"{COOKIE}=one")
    assert outcome.refused == {}
    assert {call.user for call in kubeflow.calls} == {"alice@example.com"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("user", ["bob", "mallory"])
async def test_a_stranger_is_told_why_he_is_refused(
    kfp_mesh: DemoMesh, kubeflow: Kubeflow, user: str, mode: str
) -> None:
    """Each step ends with 403, nothing reaches KFP, and the SDK's exception shows the missing right."""
    ids = _objects(kubeflow)
    outcome = await _work(kfp_mesh, mode, token=_token(user), ids=ids)
    assert outcome.steps.keys() - outcome.refused.keys() == HARMLESS
    assert {refusal.status for refusal in outcome.refused.values()} == {403}
    listing = outcome.refused["list_experiments"].text
    assert 'cannot list resource \\"experiments\\" in API group \\"pipelines.kubeflow.org\\"' in listing
    assert "team-a" in listing
    assert {call.path.removeprefix("/pipeline/apis/v2beta1/") for call in kubeflow.calls} == {"healthz", "pipelines"}


async def test_a_foreign_object_looks_like_a_missing_one(kfp_mesh: DemoMesh, kubeflow: Kubeflow) -> None:
    """Whoever guesses ids learns nothing from the answers, not even the names of other tenants."""
    token = _token("mallory")
    foreign = await _work(kfp_mesh, "grpc", token=token, ids=_objects(kubeflow))
    missing = await _work(kfp_mesh, "grpc", token=token, ids=dict.fromkeys(_objects(kubeflow), "no-such-id"))
    for step in ("get_run", "get_experiment", "get_recurring_run", "get_pipeline", "terminate_run"):
        assert _told(foreign, step) == _told(missing, step)
        assert "team-a" not in _told(foreign, step)


def _told(outcome: Outcome, step: str) -> str:
    """Return the body of a refusal without the request's own id."""
    body = json.loads(outcome.refused[step].text.partition("HTTP response body: ")[2])
    return str(body["message"])


async def test_a_viewer_reads_and_changes_nothing(kfp_mesh: DemoMesh, kubeflow: Kubeflow) -> None:
    """Erin's lists and gets pass; every step that would change something is refused."""
    outcome = await _work(kfp_mesh, "grpc", token=_token("erin"), ids=_objects(kubeflow))
    reads = {step for step in outcome.steps if step.startswith(("list_", "get_", "wait_", "read_"))}
    assert outcome.steps.keys() - outcome.refused.keys() == reads | HARMLESS


async def test_everybody_reads_a_shared_pipeline_and_nobody_changes_it(kfp_mesh: DemoMesh, kubeflow: Kubeflow) -> None:
    """A pipeline without a namespace is readable by whoever is logged in; writing needs more than a team's rights."""
    shared = kubeflow.store.add("pipeline", "", "shared")
    version = kubeflow.store.add("pipeline_version", "", "first", shared.id)
    ids = _objects(kubeflow) | {"pipeline_id": shared.id, "pipeline_version_id": version.id}
    outcome = await _work(kfp_mesh, "grpc", token=_token("mallory"), ids=ids)
    reads = {"get_pipeline", "list_pipeline_versions", "get_pipeline_version"}
    assert outcome.steps.keys() - outcome.refused.keys() == reads | HARMLESS


async def test_a_list_of_all_tenants_is_refused(kfp_mesh: DemoMesh, kubeflow: Kubeflow) -> None:
    """Where KFP keeps pipelines as Kubernetes objects, a list must name its namespace, and the SDK shows that."""
    kubeflow.store.pipelines_in = "kubernetes"
    outcome = await _work(kfp_mesh, "grpc", token=_token("alice"))
    assert outcome.refused.keys() == UNSCOPED
    for step in UNSCOPED:
        assert "must name a namespace in query:namespace" in outcome.refused[step].text
    assert {namespace for _, namespace in kubeflow.api.done} <= {"team-a", ""}
