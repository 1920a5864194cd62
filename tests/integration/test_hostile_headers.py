"""Headers that a client forges, and those that an upstream must not see, through a real Envoy in both modes."""

from __future__ import annotations

import json

import pytest
from aiohttp import ClientSession

from extauthz.demo.mesh import DemoMesh
from extauthz.headers import NAMING_A_USER
from extauthz.request.spelling import header_spellings
from tests.integration.envoy import send

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.parametrize("mode", ["grpc", "http"])]

NOTEBOOK = "/notebook/team-a/nb/lab"
SESSION = "oauth2_proxy_kubeflow"


async def seen(client: ClientSession, mesh: DemoMesh, mode: str, *headers: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the headers that alice's notebook sees."""
    sent = [("authorization", f"Bearer {mesh.signer.sign('alice@example.com')}"), *headers]
    async with send(client, "GET", mesh.urls[mode], NOTEBOOK, headers=sent) as response:
        assert response.status == 200
        return [(name, value) for name, value in json.loads(await response.read())["headers"]]


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ([f"{SESSION}=secret; theme=dark"], ["theme=dark"]),
        ([f"theme=dark; {SESSION}_0=secret; {SESSION}_1=secret"], ["theme=dark"]),
        ([f"{SESSION}=secret"], []),
        (["theme=dark", f"{SESSION}=secret; lang=en"], ["lang=en"]),
        (["theme=dark"], ["theme=dark"]),
    ],
)
async def test_a_pod_never_sees_the_session(
    client: ClientSession, mesh: DemoMesh, mode: str, sent: list[str], left: list[str]
) -> None:
    """With it, whoever owns the pod could act as its visitor; its own cookies are left, but for one in doubt."""
    found = await seen(client, mesh, mode, *(("cookie", value) for value in sent))
    assert [value for name, value in found if name == "cookie"] == left


async def test_no_forged_identity_reaches_the_upstream(client: ClientSession, mesh: DemoMesh, mode: str) -> None:
    """In every mix of dashes and underscores, of letter case, and twice."""
    names = [spelling for name in ("kubeflow-userid", "kubeflow-groups") for spelling in header_spellings(name)]
    forged = [(name, "bob@example.com") for name in (*names, "Kubeflow-UserId", "KUBEFLOW_GROUPS")]
    found = await seen(client, mesh, mode, *forged, ("connection", "kubeflow-userid"))
    told = [pair for pair in found if pair[0].replace("_", "-") in ("kubeflow-userid", "kubeflow-groups")]
    assert told == [("kubeflow-userid", "alice@example.com")]


async def test_no_other_proxys_word_reaches_the_upstream(client: ClientSession, mesh: DemoMesh, mode: str) -> None:
    """Whatever upstreams may believe of a proxy is not the client's to say, in any spelling."""
    names = [spelling for name in NAMING_A_USER for spelling in header_spellings(name)]
    for some in (names[start : start + 40] for start in range(0, len(names), 40)):  # Envoy admits 100 headers
        found = await seen(client, mesh, mode, *((name, "bob") for name in some), ("X-Forwarded_User", "bob"))
        assert "bob" not in {value for _, value in found}


@pytest.mark.parametrize("name", [*header_spellings("x-http-method-override"), *header_spellings("x-http-method")])
async def test_a_method_override_is_refused_in_every_spelling(
    client: ClientSession, mesh: DemoMesh, mode: str, name: str
) -> None:
    """What is checked is what is run."""
    sent = {"authorization": f"Bearer {mesh.signer.sign('alice@example.com')}", name: "DELETE"}
    async with send(client, "GET", mesh.urls[mode], NOTEBOOK, headers=sent) as response:
        assert response.status == 400
