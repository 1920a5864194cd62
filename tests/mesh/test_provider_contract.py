"""The shipped providers behind a real Envoy, with the filters that Istio generates for them."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import ClientSession

from extauthz.demo import HOST
from extauthz.demo.envoy import Envoy, EnvoyConfig
from extauthz.demo.mesh import DemoMesh
from tests.integration.envoy import send
from tests.mesh.generated import building
from tests.mesh.kustomize import ISTIO, build

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODES = ("grpc", "http")
ALICE, BOB = "alice@example.com", "bob@example.com"
RUNS = "/pipeline/apis/v2beta1/runs?namespace=team-a"
EXPERIMENTS = "/pipeline/apis/v2beta1/experiments"
NOTEBOOK = "/notebook/team-a/nb/api/contents/x"
MESH = yaml.safe_load((ISTIO / "components" / "mesh-config" / "mesh.yaml").read_text())
LIMIT = MESH["extensionProviders"][0]["envoyExtAuthzGrpc"]["includeRequestBodyInCheck"]["maxRequestBytes"]


def policies() -> dict[str, dict[str, Any]]:
    """The gateway's policy, and the same with the other provider."""
    (policy,) = yaml.safe_load_all((ISTIO / "components" / "gateway" / "authorization-policy.yaml").read_text())
    other = {**policy, "spec": {**policy["spec"], "provider": {"name": "rbac-extauthz-http"}}}
    return {"grpc": policy, "http": other}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DemoMesh]:
    """extauthz with what it needs, and the stub Kubeflow."""
    async with DemoMesh(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client() -> AsyncIterator[ClientSession]:
    """An HTTP client."""
    async with ClientSession() as session:
        yield session


def config(demo: DemoMesh, *, authz_port: int = 0) -> EnvoyConfig:
    """Where everything listens; `authz_port` is asked instead of extauthz."""
    return EnvoyConfig(
        upstream_port=demo.upstream.port,
        authz_grpc_port=authz_port or demo.service.grpc_port or 0,
        authz_http_port=authz_port or demo.service.http_port or 0,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.29", "1.30"])
async def gateway(
    demo: DemoMesh, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, str]]:
    """Envoy as the ingress gateway of an Istio version: its addresses by provider."""
    build = building(MESH, policies(), istio=request.param)
    async with Envoy(config(demo), tmp_path_factory.mktemp("envoy"), build) as envoy:
        yield {"grpc": envoy.grpc_url, "http": envoy.http_url}


def bearer(demo: DemoMesh, user: str) -> dict[str, str]:
    """The header that proves a user."""
    return {"authorization": f"Bearer {demo.signer.sign(user, ())}"}


async def test_the_lists_of_headers_are_the_demos() -> None:
    """What the local mesh is tried with is what is shipped; Google's assertion is a token of one overlay."""
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # envoy-data-plane 2.2
        from extauthz.demo import bootstrap
    (shipped,) = (item["envoyExtAuthzHttp"] for item in MESH["extensionProviders"] if "envoyExtAuthzHttp" in item)
    shown = {*bootstrap.HEADERS_IN_CHECK, "x-goog-iap-jwt-assertion"}
    assert set(shipped["includeRequestHeadersInCheck"]) == shown
    assert set(shipped["headersToUpstreamOnAllow"]) == set(bootstrap.HEADERS_TO_UPSTREAM)
    assert set(shipped["headersToDownstreamOnDeny"]) == set(bootstrap.HEADERS_TO_CLIENT)
    assert set(shipped["headersToDownstreamOnAllow"]) == set(bootstrap.HEADERS_TO_CLIENT_ON_SUCCESS)


@pytest.mark.parametrize("mode", MODES)
async def test_who_may_gets_through(demo: DemoMesh, gateway: dict[str, str], client: ClientSession, mode: str) -> None:
    """The upstream learns the verified name and nothing that the client claims."""
    claims = [("kubeflow-userid", BOB), ("kubeflow_userid", BOB), ("kubeflow-groups", "admins")]
    headers = [*bearer(demo, ALICE).items(), *claims]
    async with send(client, "GET", gateway[mode], RUNS, headers=headers) as response:
        assert response.status == 200
        seen = [tuple(header) for header in (await response.json())["headers"]]
    named = [(name, value) for name, value in seen if name.lower().replace("_", "-").startswith("kubeflow-")]
    assert [item for item in named if item[1]] == [("kubeflow-userid", ALICE)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        (BOB, RUNS, 403),
        (None, RUNS, 401),
        (ALICE, "/no/such/route", 403),
        (ALICE, "/pipeline/apis%2fv2beta1/runs?namespace=team-a", 400),
        (None, "/dex/..%2fpipeline/apis/v2beta1/runs", 400),
        (None, "/dex/..%5cpipeline", 400),
    ],
)
async def test_everybody_else_is_refused(
    demo: DemoMesh, gateway: dict[str, str], client: ClientSession, mode: str, who: str | None, path: str, status: int
) -> None:
    """No request goes unchecked, below the login's paths neither, and the reason reaches the client."""
    before = demo.upstream.received
    async with send(client, "GET", gateway[mode], path, headers=bearer(demo, who) if who else {}) as response:
        assert response.status == status
        assert (await response.json())["code"] == status
        assert ("www-authenticate" in response.headers) == (status == 401)
    assert demo.upstream.received == before


@pytest.mark.parametrize("mode", MODES)
async def test_the_login_is_open(gateway: dict[str, str], client: ClientSession, mode: str) -> None:
    """Whoever is not logged in reaches Dex and oauth2-proxy."""
    for path in ("/dex/auth?client_id=x", "/oauth2/start?rd=%2F"):
        async with send(client, "GET", gateway[mode], path) as response:
            assert response.status == 200


@pytest.mark.parametrize("mode", MODES)
async def test_slashes_are_merged_for_both(
    demo: DemoMesh, gateway: dict[str, str], client: ClientSession, mode: str
) -> None:
    """With the shipped normalization the check and the upstream see one path."""
    path = RUNS.replace("/apis/", "//apis/")
    async with send(client, "GET", gateway[mode], path, headers=bearer(demo, ALICE)) as response:
        assert response.status == 200
        assert (await response.json())["path"] == RUNS


@pytest.mark.parametrize("mode", MODES)
async def test_bodies_decide_up_to_the_providers_limit(
    demo: DemoMesh, gateway: dict[str, str], client: ClientSession, mode: str
) -> None:
    """The namespace in a body counts; one that the provider cuts is refused where it decides."""
    headers = {**bearer(demo, ALICE), "content-type": "application/json"}
    for namespace, size, status in (("team-a", 0, 200), ("team-b", 0, 403), ("team-a", LIMIT, 400)):
        body = json.dumps({"namespace": namespace, "display_name": "x" * size}).encode()
        async with send(client, "POST", gateway[mode], EXPERIMENTS, data=body, headers=headers) as response:
            assert response.status == status
            if status == 200:
                assert base64.b64decode((await response.json())["body"]) == body


@pytest.mark.parametrize("mode", MODES)
async def test_uploads_pass(demo: DemoMesh, gateway: dict[str, str], client: ClientSession, mode: str) -> None:
    """A body larger than the provider's limit arrives whole where no rule reads it."""
    body = b"x" * (3 * LIMIT)
    async with send(client, "PUT", gateway[mode], NOTEBOOK, data=body, headers=bearer(demo, ALICE)) as response:
        assert response.status == 200
        assert (await response.json())["bodyBytes"] == len(body)


async def test_a_provider_that_is_down_refuses(demo: DemoMesh, client: ClientSession, tmp_path: Path) -> None:
    """Nobody gets through while extauthz cannot be reached; the status is the provider's statusOnError."""
    with socket.socket() as closed:
        closed.bind((HOST, 0))  # and nobody listens
        port = closed.getsockname()[1]
        down = config(demo, authz_port=port)
        before = demo.upstream.received
        async with Envoy(down, tmp_path, building(MESH, policies())) as envoy:
            for url in (envoy.grpc_url, envoy.http_url):
                async with send(client, "GET", url, RUNS, headers=bearer(demo, ALICE)) as response:
                    assert response.status == 503
    assert demo.upstream.received == before


async def test_a_provider_that_hangs_refuses(demo: DemoMesh, client: ClientSession, tmp_path: Path) -> None:
    """Envoy waits for the provider's timeout and not for Istio's ten minutes; nobody gets through."""
    over = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async with await asyncio.start_server(hang, HOST, 0) as silent:
        asked = config(demo, authz_port=silent.sockets[0].getsockname()[1])
        async with Envoy(asked, tmp_path, building(MESH, policies())) as envoy, asyncio.timeout(60):
            statuses = [await status(client, url, bearer(demo, ALICE)) for url in (envoy.grpc_url, envoy.http_url)]
        over.set()
    assert statuses == [503, 503]


async def status(client: ClientSession, url: str, headers: dict[str, str]) -> int:
    """The status of one request."""
    async with send(client, "GET", url, RUNS, headers=headers) as response:
        return response.status


@pytest.mark.parametrize(
    ("method", "path", "checked"),
    [
        ("GET", "/apis/v1beta1/runs/6e8bff19-9ee7-4e0a-8b8b-7a4f7a4f7a4f", False),
        ("GET", "/apis/v2beta1/pipelines/-/versions/x", False),
        ("GET", "/apis/v1beta1/runs/x?view=full", False),
        ("GET", "/apis/v1beta1/runs", True),
        ("GET", "/apis/v1beta1/runs/", True),
        ("GET", "/apis/v1beta1/runs/x/nodes/y/artifacts/z:read", True),
        ("GET", "/apis/v2beta1/pipelines/x/versions/y", True),
        ("GET", "/apis/v1beta1/runs/x%2fnodes%2fy%2fartifacts%2fz:read", True),
        ("GET", "/apis/v1beta1/runs/..%2fexperiments", True),
        ("GET", "/apis/v1beta1/runs/..%5cexperiments", True),
        ("POST", "/apis/v1beta1/runs/x", True),
        ("DELETE", "/apis/v1beta1/runs/x", True),
        ("HEAD", "/apis/v1beta1/runs/x", True),
    ],
)
async def test_only_six_reads_are_left_to_the_pipelines_api(
    client: ClientSession, sidecar: Envoy, method: str, path: str, checked: bool
) -> None:
    """At ml-pipeline nothing but the reads that lookups need goes unchecked."""
    async with send(client, method, sidecar.grpc_url, path) as response:
        assert ("x-envoy-upstream-service-time" in response.headers) is not checked
        assert response.status in ((400, 401, 403) if checked else (200, 404))  # the stub knows no such run


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sidecar(demo: DemoMesh, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Envoy]:
    """Envoy as the sidecar of ml-pipeline, with the policy of the back ends' overlay."""
    objects = build(ISTIO / "overlays" / "back-ends")
    (policy,) = (found for found in objects if found["metadata"]["name"] == "extauthz-ml-pipeline")
    mesh = yaml.safe_load((ISTIO / "components" / "pipelines" / "mesh.yaml").read_text())
    gate = {
        "grpc": {**policy, "spec": {**policy["spec"], "rules": policy["spec"]["rules"][:2]}},
        "http": policies()["http"],
    }
    mesh["extensionProviders"] += MESH["extensionProviders"]
    async with Envoy(config(demo), tmp_path_factory.mktemp("sidecar"), building(mesh, gate)) as envoy:
        yield envoy
