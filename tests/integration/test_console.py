"""The console on the admin listener: who may open it, and what it shows to whom."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import ClientSession, DummyCookieJar

from extauthz.console.guard import COOKIE, MAX_COOKIE_CHARACTERS
from extauthz.demo.mesh import MANIFESTS, DemoMesh
from tests.integration.conftest import MeshFactory
from tests.integration.visitor import Visitor

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = ["/", "/rules", "/decisions", "/decisions/1", "/explain", "/nothing"]
EXPLAINED = {"url": "/notebook/team-a/nb/", "user": "erin@example.com"}
VIEWERS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: console-viewer}
rules: [{nonResourceURLs: [/extauthz/console], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: console-viewers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: console-viewer}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: carol@example.com}]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DemoMesh]:
    """A mesh in which carol may see the console, and explain nothing."""
    manifests = tmp_path_factory.mktemp("rights")
    for file in MANIFESTS.glob("*.yaml"):
        (manifests / file.name).write_text(file.read_text())
    (manifests / "viewers.yaml").write_text(VIEWERS)
    async with DemoMesh(tmp_path_factory.mktemp("console"), manifests=manifests) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(house: DemoMesh) -> AsyncIterator[Visitor]:
    """A visitor of that mesh's console."""
    async with ClientSession(cookie_jar=DummyCookieJar()) as client:
        yield Visitor(house, client)


@pytest.mark.parametrize("path", PAGES)
async def test_without_a_token_there_is_only_the_way_to_sign_in(visitor: Visitor, path: str) -> None:
    """Not even whether there is such a page is told."""
    status, text, answer = await visitor.get(path)
    assert status == 401
    assert 'name="token"' in text
    assert "team-a" not in text
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", PAGES)
async def test_without_the_right_every_page_is_refused(visitor: Visitor, path: str) -> None:
    """A verified user is told which right he needs, and nothing else."""
    for proof in (visitor.bearer("alice"), visitor.cookie("alice")):
        status, text, _ = await visitor.get(path, **proof)
        assert status == 403
        assert "alice@example.com" in text
        assert "get /extauthz/console" in text
        assert "<table" not in text


@pytest.mark.parametrize("proof", ["Bearer nonsense", "Bearer a.b.c", "Basic YTpi", "Bearer", ""])
async def test_what_is_no_good_token_is_no_token(visitor: Visitor, proof: str) -> None:
    """Nor is the console opened by a cookie beside it."""
    status, _, _ = await visitor.get("/", authorization=proof, **visitor.cookie("admin"))
    assert status == 401
    assert (await visitor.get("/", cookie=f"{COOKIE}={proof}"))[0] == 401


async def test_an_expired_token_is_refused(visitor: Visitor) -> None:
    """And the page says why."""
    status, text, _ = await visitor.get("/", **visitor.cookie("expired"))
    assert status == 401
    assert "expired" in text


async def test_headers_that_name_a_user_are_believed_by_nobody(visitor: Visitor) -> None:
    """Only the token counts here, whatever the settings let a mesh say."""
    status, text, _ = await visitor.get("/", **{"kubeflow-userid": "admin@example.com", **visitor.bearer("alice")})
    assert status == 403
    assert "admin@example.com" not in text


@pytest.mark.parametrize(
    "host", ["kubeflow.example", "evil.example:9002", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0"]
)
async def test_a_foreign_host_name_is_refused(visitor: Visitor, host: str) -> None:
    """A web page whose name resolves to the console's address reads nothing."""
    for path in ("/", "/login", "/console.css"):
        status, text, _ = await visitor.get(path, host=host, **visitor.bearer("admin"))
        assert (status, "listeners.admin.console.hosts" in text) == (403, True)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9002", "[::1]:9002"])
async def test_it_is_reached_by_its_own_names(visitor: Visitor, host: str) -> None:
    """As `kubectl port-forward` leads to it, with any port."""
    assert (await visitor.get("/", host=host, **visitor.bearer("admin")))[0] == 200


async def test_other_hosts_can_be_named(new_mesh: MeshFactory) -> None:
    """Then those count, and no others."""
    settings = {"listeners": {"admin": {"console": {"hosts": ["console.example"]}}}}
    async with new_mesh(settings=settings) as mesh, ClientSession() as client:
        visitor = Visitor(mesh, client)
        assert (await visitor.get("/", host="console.example:80", **visitor.bearer("admin")))[0] == 200
        assert (await visitor.get("/", **visitor.bearer("admin")))[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/login", "/explain", "/logout"])
async def test_forms_of_other_pages_are_refused(visitor: Visitor, path: str, headers: dict[str, str]) -> None:
    """A cookie alone makes nobody send a form (CSRF), not even to sign in or out."""
    status, text, answer = await visitor.post(path, EXPLAINED, **visitor.cookie("admin"), **headers)
    assert (status, "another page" in text) == (403, True)
    assert "set-cookie" not in answer.headers


async def test_signing_in_gives_a_cookie_that_no_script_and_no_other_page_can_use(visitor: Visitor) -> None:
    """For the console only, and no longer than the token is valid."""
    token = visitor.bearer("admin")["authorization"]
    status, _, answer = await visitor.post("/login", {"token": f" {token}\n"}, origin=visitor.origin)
    cookie = answer.headers["set-cookie"]
    assert (status, answer.headers["location"]) == (303, "/console/")
    assert {"HttpOnly", "SameSite=Strict", "Path=/console"} <= set(cookie.split("; "))
    assert 0 < int(re.findall(r"Max-Age=(\d+)", cookie)[0]) <= 12 * 3600
    assert (await visitor.get("/", cookie=cookie.partition(";")[0]))[0] == 200


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "no token"),
        ("two words", "no token"),
        ("a.b.c", "token"),
        ("a" * (MAX_COOKIE_CHARACTERS + 1), "too long"),
    ],
)
async def test_signing_in_with_something_else(visitor: Visitor, token: str, why: str) -> None:
    """Is told, and leaves no cookie."""
    status, text, answer = await visitor.post("/login", {"token": token}, origin=visitor.origin)
    assert status == 401
    assert why in re.findall(r'role="alert">([^<]*)', text)[0]
    assert "set-cookie" not in answer.headers


async def test_signing_out_takes_the_cookie_back(visitor: Visitor) -> None:
    """At once."""
    status, _, answer = await visitor.post("/logout", {}, origin=visitor.origin, **visitor.cookie("admin"))
    assert (status, answer.headers["location"]) == (303, "/console/login")
    assert "Max-Age=0" in answer.headers["set-cookie"]


async def test_explaining_needs_the_right_to_ask_what_others_may(visitor: Visitor) -> None:
    """Carol may look, and that is all."""
    status, text, _ = await visitor.get("/decisions", **visitor.bearer("carol"))
    assert status == 200
    assert 'href="/console/explain"' not in text
    for status, text, _ in (
        await visitor.get("/explain", **visitor.bearer("carol")),
        await visitor.post("/explain", EXPLAINED, **visitor.bearer("carol")),
    ):
        assert status == 403
        assert "create subjectaccessreviews.authorization.k8s.io" in text
        assert "erin" not in text


async def test_an_explanation_is_the_gateways_own(visitor: Visitor, house: DemoMesh) -> None:
    """The rule, the values and the reviews; nothing is counted or listed by it."""
    before = house.service.gateway.meter.by_text(), (await visitor.get("/decisions", **visitor.bearer("admin")))[1]
    status, text, _ = await visitor.post("/explain", EXPLAINED, **visitor.bearer("admin"))
    assert status == 200
    for words in ("forbidden", "dataplanes.yaml:", "path:namespace", "update notebooks.kubeflow.org", "by console"):
        assert words in text
    token = {"token": visitor.bearer("alice")["authorization"], "url": EXPLAINED["url"]}
    status, text, _ = await visitor.post("/explain", token, origin=visitor.origin, **visitor.cookie("admin"))
    assert (status, "alice@example.com" in text, "allowed" in text) == (200, True, True)
    assert token["token"] not in text
    after = house.service.gateway.meter.by_text(), (await visitor.get("/decisions", **visitor.bearer("admin")))[1]
    assert before == after


async def test_a_mistake_in_the_form_is_told_beside_its_field(visitor: Visitor) -> None:
    """With the status of a bad request, and what was filled in still there."""
    status, text, _ = await visitor.post("/explain", {"url": "no/slash"}, **visitor.bearer("admin"))
    assert status == 400
    assert 'aria-describedby="url-wrong"' in text
    assert 'value="no/slash"' in text


async def test_rules_and_decisions_are_shown(visitor: Visitor, house: DemoMesh, client: ClientSession) -> None:
    """A refusal is listed with its grounds, and counted with its rule."""
    url = f"{house.urls['grpc']}/notebook/team-a/nb/?token=do-not-show"
    async with client.get(url, headers=visitor.bearer("erin")) as response:
        assert response.status == 403
    _, listed, _ = await visitor.get("/decisions?user=erin&namespace=team-a&outcome=deny", **visitor.bearer("carol"))
    number = re.findall(r"/console/decisions/(\d+)", listed)[0]
    assert "do-not-show" not in listed
    assert "erin@example.com" not in (await visitor.get("/decisions?user=bob", **visitor.bearer("carol")))[1]
    status, text, _ = await visitor.get(f"/decisions/{number}", **visitor.bearer("carol"))
    assert status == 200
    for words in ("erin@example.com", "update notebooks.kubeflow.org", "team-a", "dataplanes.yaml"):
        assert words in text
    assert "do-not-show" not in text
    _, text, _ = await visitor.get("/rules?q=dataplanes+notebook&show=refusing", **visitor.bearer("carol"))
    assert re.search(r">notebook</a>", text)
    assert (await visitor.get("/decisions/999999999", **visitor.bearer("carol")))[0] == 404
    assert (await visitor.get("/nothing", **visitor.bearer("carol")))[0] == 404


async def test_the_overview_tells_how_the_parts_are(visitor: Visitor, house: DemoMesh) -> None:
    """Readiness, the issuer with its keys, rights and lookups, and charts that are told in words."""
    status, text, _ = await visitor.get("/", **visitor.bearer("carol"))
    assert status == 200
    for words in ("Ready", house.signer.issuer, house.signer.jwk["kid"], "embedded", "Pipelines lookup", "<svg"):
        assert words in text
    assert 'aria-label="Decisions each 5 seconds' in text


async def test_every_answer_carries_the_headers_that_keep_browsers_in_bounds(visitor: Visitor) -> None:
    """No script, no frame, no cache; errors too."""
    for path in (*PAGES, "/login", "/console.css"):
        _, text, answer = await visitor.get(path, **visitor.bearer("admin"))
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "script" not in policy
        assert (answer.headers["cache-control"], answer.headers["x-frame-options"]) == ("no-store", "DENY")
        assert "<script" not in text
        assert "style=" not in text


async def test_a_page_follows_what_happens_only_when_asked(visitor: Visitor) -> None:
    """A page that moves by itself is hard on many readers."""
    _, _, still = await visitor.get("/decisions?user=erin", **visitor.bearer("admin"))
    _, text, moving = await visitor.get("/decisions?user=erin&live=1", **visitor.bearer("admin"))
    assert "refresh" not in still.headers
    assert moving.headers["refresh"] == "3"
    assert 'href="/console/decisions?user=erin"' in text


async def test_the_edges_lead_nowhere_near_it(visitor: Visitor, house: DemoMesh, client: ClientSession) -> None:
    """A request through Envoy is a request for Kubeflow; one to an edge is a check."""
    urls = [
        *house.urls.values(),
        f"http://127.0.0.1:{house.service.http_port}",
        f"http://127.0.0.1:{house.service.http_port}/check",
    ]
    for url in urls:
        for path in ("/console", "/console/", "/console/login"):
            headers = {**visitor.bearer("admin"), "host": "localhost", "accept": "text/html"}
            async with client.get(url + path, headers=headers, allow_redirects=False) as response:
                assert response.status == 403
                assert "console.css" not in await response.text()


async def test_a_console_that_is_not_asked_for_is_not_there(new_mesh: MeshFactory) -> None:
    """It is off unless settings turn it on."""
    async with new_mesh(settings={"listeners": {"admin": {"console": None}}}) as mesh, ClientSession() as client:
        visitor = Visitor(mesh, client)
        for path in ("", "/", "/login"):
            assert (await visitor.get(path, **visitor.bearer("admin")))[0] == 404
        async with client.get(f"{mesh.admin_url}/readyz") as response:
            assert response.status == 200


async def test_the_short_address_leads_to_it(visitor: Visitor) -> None:
    """Without the last slash."""
    status, _, answer = await visitor.get("")
    assert (status, answer.headers["location"]) == (308, "/console/")


async def test_what_fails_is_no_page(visitor: Visitor, house: DemoMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours tells the visitor nothing but that."""
    monkeypatch.setattr(house.service, "_watch", None)
    status, text, answer = await visitor.get("/", **visitor.bearer("admin"))
    assert (status, text) == (500, "The page could not be put together; the log says why.\n")
    assert answer.headers["cache-control"] == "no-store"
