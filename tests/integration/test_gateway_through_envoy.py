"""The whole gateway behind a real Envoy, in both modes: who gets through, and what each side sees."""

from __future__ import annotations

import base64
import html
import json
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from extauthz.demo.issuer import Signer
from extauthz.demo.mesh import DemoMesh, shipped_policies
from tests.integration.envoy import send
from tests.issuer import rsa_key

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODES = ("grpc", "http")
LIMIT = 512
RUNS = "/pipeline/apis/v2beta1/runs?namespace=team-a"
EXPERIMENTS = "/pipeline/apis/v2beta1/experiments"
NOTEBOOK = "/notebook/team-a/nb/api/kernels"
ALICE = "alice@example.com"
BOB = "bob@example.com"
JSON = {"content-type": "application/json"}

POLICY = """
apiVersion: extauthz.dev/v1
kind: Policy
rules:
  - name: public
    match: {path: /public}
    allow: public
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="mesh")
async def _mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DemoMesh]:
    """The shipped policy and a public page, with a small buffer for bodies."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "public.yaml").write_text(POLICY)
    paths = [str(shipped_policies()), str(folder / "public.yaml")]
    settings = {"policy": {"paths": paths}, "body": {"maxRequestBytes": LIMIT}}
    async with DemoMesh(folder / "state", settings=settings) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DemoMesh]:
    """A mesh whose Envoy refuses larger bodies by itself instead of cutting them."""
    settings = {"body": {"maxRequestBytes": LIMIT}}
    folder = tmp_path_factory.mktemp("strict")
    async with DemoMesh(folder, settings=settings, envoy={"allow_partial": False}) as running:
        yield running


def bearer(mesh: DemoMesh, user: str = ALICE, groups: Sequence[str] = ()) -> dict[str, str]:
    """The header that proves a user."""
    return {"authorization": f"Bearer {mesh.signer.sign(user, groups)}"}


def seen(echo: Mapping[str, Any], name: str) -> list[str]:
    """Every value of a header that the upstream saw."""
    return [value for header, value in echo["headers"] if header == name]


def reason(status: Mapping[str, Any]) -> str:
    """The reason code in a refusal."""
    return str(status["details"]["causes"][0]["reason"])


@pytest.mark.parametrize("mode", MODES)
async def test_allowed(mesh: DemoMesh, client: ClientSession, mode: str) -> None:
    """Alice reaches her namespace; the upstream learns her name and her groups from us."""
    headers = bearer(mesh, ALICE, ["data-science", "system:masters"])
    async with send(client, "GET", mesh.urls[mode], RUNS, headers=headers) as response:
        assert response.status == 200
        echo = await response.json()
    assert echo["path"] == RUNS
    assert seen(echo, "kubeflow-userid") == [ALICE]
    assert seen(echo, "kubeflow-groups") == ["data-science"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("who", "path", "status", "why"),
    [
        (BOB, RUNS, 403, "forbidden"),
        (None, RUNS, 401, "no_credential"),
        (ALICE, "/pipeline/apis/v9/runs?namespace=team-a", 403, "denied_by_rule"),
        (ALICE, "/pipeline/apis//v2beta1/runs?namespace=team-a", 400, "empty_segment"),
        (ALICE, "/pipeline/apis/v2beta1/runs", 400, "namespace_missing"),
    ],
)
async def test_refused(
    mesh: DemoMesh, client: ClientSession, mode: str, who: str | None, path: str, status: int, why: str
) -> None:
    """A refusal says why in the form of a Kubernetes Status, and the upstream hears nothing."""
    before = mesh.upstream.received
    headers = bearer(mesh, who) if who else {}
    async with send(client, "GET", mesh.urls[mode], path, headers=headers) as response:
        told = await response.json()
    assert (response.status, told["code"], reason(told)) == (status, status, why)
    assert response.headers["cache-control"] == "no-store"
    assert mesh.upstream.received == before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
async def test_a_bad_token_is_challenged(mesh: DemoMesh, client: ClientSession, mode: str, token: str) -> None:
    """401 with the challenge of RFC 6750, which names no error where no token was sent."""
    async with send(client, "GET", mesh.urls[mode], RUNS, headers={"authorization": f"Bearer {token}"}) as response:
        assert response.status == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="extauthz", error="invalid_token"'
    async with send(client, "GET", mesh.urls[mode], RUNS) as response:
        assert response.headers["www-authenticate"] == 'Bearer realm="extauthz"'


@pytest.mark.parametrize("mode", MODES)
async def test_a_name_beyond_ascii_arrives_as_utf8(mesh: DemoMesh, client: ClientSession, mode: str) -> None:
    """The same bytes in both modes."""
    headers = bearer(mesh, "zo\u00eb@example.com", ["caf\u00e9"])
    async with send(client, "GET", mesh.urls[mode], "/pipeline/apis/v2beta1/healthz", headers=headers) as response:
        echo = await response.json()
    assert [value.encode("latin-1").decode() for value in seen(echo, "kubeflow-userid")] == ["zo\u00eb@example.com"]
    assert [value.encode("latin-1").decode() for value in seen(echo, "kubeflow-groups")] == ["caf\u00e9"]


# What a client claims about itself

CLAIMS = [
    [("kubeflow-userid", BOB)],
    [("Kubeflow-UserId", BOB), ("Kubeflow-UserId", "admin@example.com")],
    [("kubeflow-userid", ""), ("kubeflow_userid", BOB)],
    [("kubeflow_userid", BOB), ("kubeflow_userid", "x"), ("KUBEFLOW_GROUPS", "admins")],
    [("kubeflow-groups", "admins"), ("kubeflow_groups", "admins")],
    [("connection", "kubeflow-userid"), ("kubeflow-userid", BOB)],
    [("x-envoy-auth-headers-to-remove", "kubeflow-userid"), ("kubeflow-userid", BOB)],
    [("x-envoy-auth-partial-body", "false")],
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("claims", CLAIMS)
@pytest.mark.parametrize(("path", "names"), [(RUNS, [ALICE]), ("/public", [])])
async def test_spoofed_identity(
    mesh: DemoMesh, client: ClientSession, mode: str, claims: list[tuple[str, str]], path: str, names: list[str]
) -> None:
    """The upstream sees the verified identity exactly once, or none on a public page; never the client's claim."""
    headers = [*bearer(mesh).items(), *claims]
    async with send(client, "GET", mesh.urls[mode], path, headers=headers) as response:
        assert response.status == 200
        echo = await response.json()
    assert seen(echo, "kubeflow-userid") == names
    for name in ("kubeflow_userid", "kubeflow-groups", "kubeflow_groups"):
        assert seen(echo, name) == []


# Bodies


def experiment(namespace: str = "team-a", size: int = 0) -> bytes:
    """A request to create an experiment, padded to at least `size` bytes."""
    return json.dumps({"namespace": namespace, "display_name": "x", "description": "x" * size}).encode()


@pytest.mark.parametrize("mode", MODES)
async def test_a_body_decides_and_arrives_unchanged(mesh: DemoMesh, client: ClientSession, mode: str) -> None:
    """The namespace in the body counts."""
    headers = {**bearer(mesh), **JSON}
    async with send(client, "POST", mesh.urls[mode], EXPERIMENTS, data=experiment(), headers=headers) as response:
        assert response.status == 200
        assert base64.b64decode((await response.json())["body"]) == experiment()
    body = experiment("team-b")
    async with send(client, "POST", mesh.urls[mode], EXPERIMENTS, data=body, headers=headers) as response:
        assert response.status == 403


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """A body of unknown length."""
    for part in parts:
        yield part


@pytest.mark.parametrize("mode", MODES)
async def test_a_chunked_body_decides_too(mesh: DemoMesh, client: ClientSession, mode: str) -> None:
    """Without a content-length it is read as far as it came, which is whole."""
    headers = {**bearer(mesh), **JSON}
    for namespace, status in (("team-a", 200), ("team-b", 403)):
        body = experiment(namespace)
        parts = chunks(body[:10], body[10:])
        async with send(client, "POST", mesh.urls[mode], EXPERIMENTS, data=parts, headers=headers) as response:
            assert response.status == status


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("body", [None, b""])
async def test_no_body_names_no_namespace(mesh: DemoMesh, client: ClientSession, mode: str, body: bytes | None) -> None:
    """A rule that reads the body refuses where there is none; only gRPC mode can tell that none was sent."""
    async with send(client, "POST", mesh.urls[mode], EXPERIMENTS, data=body, headers=bearer(mesh)) as response:
        why = {"grpc": "namespace_missing", "http": "body_not_shown"}[mode]
        assert (response.status, reason(await response.json())) == (400, why)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("claim", [{}, {"x-envoy-auth-partial-body": "false"}])
async def test_a_cut_body_is_not_believed(
    mesh: DemoMesh, client: ClientSession, mode: str, claim: dict[str, str]
) -> None:
    """Where Envoy shows only the beginning, a rule that reads the body refuses, whatever the client claims."""
    before = mesh.upstream.received
    headers = {**bearer(mesh), **JSON, **claim}
    body = experiment(size=3 * LIMIT)
    async with send(client, "POST", mesh.urls[mode], EXPERIMENTS, data=body, headers=headers) as response:
        assert (response.status, reason(await response.json())) == (400, "body_truncated")
    assert mesh.upstream.received == before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [LIMIT - 1, LIMIT, LIMIT + 1])
async def test_bodies_around_the_limit(mesh: DemoMesh, client: ClientSession, mode: str, length: int) -> None:
    """One byte less than the buffer is the largest body that is certain to be whole."""
    body = experiment().ljust(length)
    headers = {**bearer(mesh), **JSON}
    async with send(client, "POST", mesh.urls[mode], EXPERIMENTS, data=body, headers=headers) as response:
        assert response.status == (200 if length < LIMIT else 400)


@pytest.mark.parametrize("mode", MODES)
async def test_a_large_body_passes_where_no_rule_reads_it(mesh: DemoMesh, client: ClientSession, mode: str) -> None:
    """An upload into a notebook is not cut by the check."""
    body = random.Random(1).randbytes(40 * LIMIT)
    async with send(client, "PUT", mesh.urls[mode], NOTEBOOK, data=body, headers=bearer(mesh)) as response:
        assert response.status == 200
        assert (await response.json())["bodyBytes"] == len(body)


@pytest.mark.parametrize("mode", MODES)
async def test_envoy_itself_refuses_large_bodies_where_it_may_not_cut(
    strict: DemoMesh, client: ClientSession, mode: str
) -> None:
    """Without allow_partial_message a larger body is 413, and nobody is asked."""
    before = strict.upstream.received
    headers = {**bearer(strict), **JSON}
    body = experiment(size=3 * LIMIT)
    async with send(client, "POST", strict.urls[mode], EXPERIMENTS, data=body, headers=headers) as response:
        assert response.status == 413
    assert strict.upstream.received == before


PREFIXES = [
    pytest.param([experiment(size=LIMIT)], id="one frame"),
    pytest.param([experiment()[:20], experiment(size=LIMIT)[20:]], id="two frames"),
    # Read alone, each first part is a whole JSON document.
    pytest.param([experiment().ljust(LIMIT), b'{"namespace":"team-b"}'], id="whole at the limit"),
    pytest.param([experiment().ljust(LIMIT - 1), b'  {"namespace":"team-b"}'], id="whole below the limit"),
    pytest.param([experiment().ljust(LIMIT + 1)], id="blanks"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mesh_name", ["mesh", "strict"])
@pytest.mark.parametrize("parts", PREFIXES)
async def test_http2_never_passes_by_the_beginning_of_a_body(
    mesh: DemoMesh, strict: DemoMesh, mesh_name: str, mode: str, parts: list[bytes]
) -> None:
    """Over HTTP/2 Envoy shows a cut body even where it may not cut, and may call it whole: refused all the same."""
    asked = {"mesh": mesh, "strict": strict}[mesh_name]
    before = asked.upstream.received
    async with httpx.AsyncClient(http1=False, http2=True) as http2:
        answer = await http2.post(
            asked.urls[mode] + EXPERIMENTS, content=chunks(*parts), headers={**bearer(asked), **JSON}
        )
    assert answer.http_version == "HTTP/2"
    assert answer.status_code in (400, 413)
    assert asked.upstream.received == before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mesh_name", ["mesh", "strict"])
async def test_http2_passes_a_whole_body_unchanged(mesh: DemoMesh, strict: DemoMesh, mesh_name: str, mode: str) -> None:
    """And decides by it."""
    asked = {"mesh": mesh, "strict": strict}[mesh_name]
    headers = {**bearer(asked), **JSON}
    async with httpx.AsyncClient(http1=False, http2=True) as http2:
        answer = await http2.post(asked.urls[mode] + EXPERIMENTS, content=experiment(), headers=headers)
        assert answer.status_code == 200
        assert base64.b64decode(answer.json()["body"]) == experiment()
        refused = await http2.post(asked.urls[mode] + EXPERIMENTS, content=experiment("team-b"), headers=headers)
        assert refused.status_code == 403


# Kinds of clients


@pytest.mark.parametrize("mode", MODES)
async def test_websocket(mesh: DemoMesh, client: ClientSession, mode: str) -> None:
    """A kernel's channel works for its owner, and is refused with 403 to everybody else."""
    url = mesh.urls[mode] + NOTEBOOK
    async with client.ws_connect(url, headers=bearer(mesh)) as channel:
        assert seen(await channel.receive_json(), "kubeflow-userid") == [ALICE]
        await channel.send_str("1 + 1")
        assert await channel.receive_str() == "1 + 1"
        await channel.close()
        assert (await channel.receive()).type is WSMsgType.CLOSED
    for headers, status in ((bearer(mesh, BOB), 403), ({}, 401)):
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect(url, headers=headers)
        assert refused.value.status == status


@pytest.mark.parametrize("mode", MODES)
async def test_head(mesh: DemoMesh, client: ClientSession, mode: str) -> None:
    """HEAD is decided as GET is, and never has a body."""
    for who, status in ((ALICE, 200), (BOB, 403)):
        async with send(client, "HEAD", mesh.urls[mode], RUNS, headers=bearer(mesh, who)) as response:
            assert (response.status, await response.read()) == (status, b"")


UNKNOWN = "This path belongs to no known part of Kubeflow."
CANNOT = (
    'User "bob@example.com" cannot update resource "notebooks" in API group "kubeflow.org" in the namespace "team-a"'
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("who", "method", "code", "message"),
    [
        (ALICE, "/made.up.Service/Method", grpc.StatusCode.PERMISSION_DENIED, UNKNOWN),
        (BOB, "/notebook/team-a/nb/Method", grpc.StatusCode.PERMISSION_DENIED, CANNOT),
        (None, "/notebook/team-a/nb/Method", grpc.StatusCode.UNAUTHENTICATED, "Log in: no credential was sent."),
        (ALICE, "/notebook/team-a/nb/%0a", grpc.StatusCode.INTERNAL, "The path holds a control character."),
    ],
)
async def test_a_grpc_client_gets_a_grpc_status(
    mesh: DemoMesh, mode: str, who: str | None, method: str, code: grpc.StatusCode, message: str
) -> None:
    """A refused call ends with the status that fits and a sentence that gRPC libraries show."""
    metadata = list(bearer(mesh, who).items()) if who else []
    async with grpc.aio.insecure_channel(mesh.urls[mode].removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(method)(b"x", metadata=metadata)
    assert (refused.value.code(), refused.value.details()) == (code, message)


@pytest.mark.parametrize("mode", MODES)
async def test_a_browser_gets_a_page(mesh: DemoMesh, client: ClientSession, mode: str) -> None:
    """It says in words what is missing; a script in the same browser gets JSON."""
    accept = {**bearer(mesh, BOB), "accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with send(client, "GET", mesh.urls[mode], RUNS, headers={**accept, "sec-fetch-mode": "navigate"}) as response:
        page = await response.text()
    assert response.status == 403
    assert response.content_type == "text/html"
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "cannot list resource" in page
    assert 'in the namespace "team-a"' in html.unescape(page)
    async with send(client, "GET", mesh.urls[mode], RUNS, headers={**accept, "sec-fetch-mode": "cors"}) as response:
        assert response.content_type == "application/json"


@pytest.mark.parametrize("mode", MODES)
async def test_nothing_that_a_client_sends_splits_a_refusal(mesh: DemoMesh, client: ClientSession, mode: str) -> None:
    """Envoy does not look at the headers of a refusal, so nothing of the request may get into them."""
    hostile = "/nowhere/%0d%0aset-cookie:%20a=1%0d%0a%0d%0a<script>"
    headers = {"x-request-id": 'a"<script>%0d%0aset-cookie: a=1', "accept": "text/html"}
    async with send(client, "GET", mesh.urls[mode], hostile, headers=headers) as response:
        text = await response.text()
    assert response.status == 400
    assert "set-cookie" not in response.headers
    assert "script" not in text


# Trouble behind the check


@pytest.mark.parametrize("mode", MODES)
async def test_without_keys_nobody_passes(
    tmp_path_factory: pytest.TempPathFactory, client: ClientSession, mode: str
) -> None:
    """With the issuer down from the start the answer is 503, in gRPC mode with the time to come back."""
    signer = Signer(rsa_key("down").private, "https://down.example")  # type: ignore[arg-type]  # it is an RSA key
    keys = {"url": "http://127.0.0.1:1/jwks"}
    issuer = {"issuer": signer.issuer, "audiences": ["kubeflow"], "keys": keys, "claims": {"user": "email"}}
    folder = tmp_path_factory.mktemp("down")
    async with DemoMesh(folder, settings={"identity": {"jwt": [issuer]}}) as down:
        headers = {"authorization": f"Bearer {signer.sign(ALICE)}"}
        async with send(client, "GET", down.urls[mode], RUNS, headers=headers) as response:
            assert response.status == 503
            if mode == "grpc":  # in HTTP mode Envoy makes its own answer of every 5xx
                assert int(response.headers["retry-after"]) >= 1
                assert (await response.json())["reason"] == "ServiceUnavailable"
        async with client.get(f"{down.admin_url}/readyz") as response:
            assert response.status == 503
            assert "issuer https://down.example has no keys" in (await response.json())["blockers"][0]


# One behaviour, two edges

PATHS = [
    *("/", "/public", "/Public", "/public/", "/public?x=1&x=2", "/unknown", "/healthz"),
    *(RUNS, "/pipeline/apis/v2beta1/runs?namespace=team-b", "/pipeline/apis/v2beta1/runs", f"{RUNS}&experiment_id=x"),
    *(f"{RUNS}&namespace=team-b", f"{RUNS};x=1", f"{RUNS}&%6eamespace=x", "/pipeline/apis/v2beta1/runs?namespace=%zz"),
    *("/pipeline/apis/v2beta1/runs?namespace=%00", "/pipeline/apis/v2beta1/runs?namespace=%ff", f"{RUNS}&a=b+c%20d"),
    *("/PIPELINE/apis/v2beta1/runs?namespace=team-a", "/pipeline%2fapis/v2beta1/runs", "/pipeline/apis/v2beta1/runs/"),
    *(
        "//pipeline/apis/v2beta1/runs",
        "/pipeline/./apis/v2beta1/runs?namespace=team-a",
        "/a/../pipeline/apis",
        "/a/..;/b",
    ),
    *(
        EXPERIMENTS,
        f"{EXPERIMENTS}?namespace=team-a",
        f"{EXPERIMENTS}/",
        f"{EXPERIMENTS}:x",
        "/pipeline/apis/%252e%252e/x",
    ),
    *(NOTEBOOK, "/notebook/team-b/nb/", "/notebook/team-a/nb", "/notebook/team-a//x", "/notebook/team-a/nb/a//b%2fc;d"),
    *("/notebook/team-a/nb/%ff", "/notebook/team-a/nb/..%2f..%2fteam-b", "/notebook/team-a/nb/a?x=1;x=2&x=3", "/a%5cb"),
    *("/pipeline/artifacts/get?key=private-artifacts/team-a/x", "/pipeline/artifacts/get?key=x", "/x" * 300, "/a[b]|c"),
    *("/notebook/team-a/nb/" + "a" * 9000, "/" + "b" * 20000, "/pipeline/artifacts/volume/x?y", "/pipeline/artifacts/"),
]
METHODS = [
    "GET",
    "GET",
    "GET",
    "HEAD",
    "POST",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "PROPFIND",
    "TRACE",
    "FROB",
]
HEADERS: list[dict[str, str]] = [
    *({}, {}, {}, {"accept": "text/html", "sec-fetch-mode": "navigate"}, {"accept": "text/html,*/*"}, {"accept": ""}),
    *(
        {"x-http-method-override": "DELETE"},
        {"x_http_method": "PUT"},
        {"content-encoding": "gzip"},
        {"range": "bytes=0-"},
    ),
    *({"content-type": "application/x-www-form-urlencoded"}, {"content-type": "application/grpc"}, JSON, JSON, JSON),
    *({"content-type": "application/json; charset=utf-16"}, {"content-type": "application/grpc-web+proto"}),
    *({"kubeflow-userid": BOB}, {"kubeflow_userid": BOB}, {"cookie": "a=" + "b" * 9000}, {"expect": "100-continue"}),
    *({"x-request-id": "<b>"}, {"connection": "close"}, {"te": "trailers"}, {"x-odd": "\u00e9\u00ff"}),
]
BODIES = [
    *(
        None,
        None,
        experiment(),
        experiment(),
        experiment("team-b"),
        experiment(size=LIMIT),
        b"[]",
        b"{",
        b"\xff",
        b"\x00",
    ),
    *(b'{"namespace":"team-a","namespace":"team-a"}', b'\xef\xbb\xbf{"namespace":"team-a"}', b'{"Namespace":"team-a"}'),
]
BODILESS = ("GET", "HEAD", "OPTIONS", "TRACE")


def asked(seed: int) -> tuple[str, str, dict[str, str], bytes | None]:
    """One request out of many; the same seed makes the same one."""
    pick = random.Random(seed)
    method = pick.choice(METHODS)
    headers = dict(pick.choice(HEADERS))
    who = pick.choice(["alice", "alice", "alice", "bob", "nobody", "expired", "twice"])
    body = None if method in BODILESS and pick.random() < 0.9 else pick.choice(BODIES)
    return method, pick.choice(PATHS), {**headers, "who": who}, body


def credentials(mesh: DemoMesh) -> dict[str, list[tuple[str, str]]]:
    """The credential of each kind of caller."""
    alice, bob = (("authorization", f"Bearer {mesh.signer.sign(user)}") for user in (ALICE, BOB))
    expired = ("authorization", f"Bearer {mesh.signer.sign(ALICE, lifetime=-3600)}")
    return {"alice": [alice], "bob": [bob], "nobody": [], "expired": [expired], "twice": [alice, bob]}


REQUEST_ID = re.compile(rb'<footer>Request <code>[^<]*</code></footer>|,\{"reason":"request_id","message":"[^"]*"\}')
UPSTREAM_HEADERS = ("authorization", "kubeflow-userid", "kubeflow_userid", "kubeflow-groups", "kubeflow_groups")
TOLD = ("content-type", "cache-control", "vary", "www-authenticate", "x-content-type-options")


async def outcome(client: ClientSession, url: str, who: list[tuple[str, str]], seed: int) -> tuple[Any, ...]:
    """What the client got, and what the upstream saw, without what differs from one request to the next."""
    method, path, headers, body = asked(seed)
    sent = [*who, *((name, value) for name, value in headers.items() if name != "who")]
    async with send(client, method, url, path, headers=sent, data=body, skip_auto_headers=["content-type"]) as response:
        content = await response.read()
    if content and response.status == 200:  # a refused gRPC call is a 200 without content
        echo = json.loads(content)
        identity = [(name, value) for name, value in echo["headers"] if name in UPSTREAM_HEADERS]
        return 200, echo["method"], echo["path"], identity, echo["bodyBytes"], echo["body"]
    told = {name: response.headers.get(name) for name in TOLD}
    return (
        response.status,
        told,
        REQUEST_ID.sub(b"", content),
        response.headers.get("grpc-message"),
        response.headers.get("grpc-status"),
    )


@pytest.mark.parametrize("block", range(10))
async def test_both_modes_answer_alike(mesh: DemoMesh, client: ClientSession, block: int) -> None:
    """The same request gets the same answer through the gRPC edge and through the HTTP edge."""
    callers = credentials(mesh)
    for seed in range(block * 40, block * 40 + 40):
        who = callers[asked(seed)[2]["who"]]
        by_grpc = await outcome(client, mesh.urls["grpc"], who, seed)
        by_http = await outcome(client, mesh.urls["http"], who, seed)
        assert by_grpc == by_http, (seed, asked(seed))
