"""A real JupyterLab behind a real Envoy, at the place where Kubeflow puts notebook servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import ClientSession, WSServerHandshakeError

from extauthz.demo.mesh import DemoMesh
from extauthz.demo.scenario import tokens
from tests.clients.jupyter import LOOKUPS, JupyterLab, Notebook

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODES = ["grpc", "http"]
NAMES = [
    "plain.txt",
    "two words.txt",
    "100%.txt",
    "100%25.txt",
    "sharp#1.txt",
    "what?.txt",
    "semi;colon.txt",
    "a&b=c+d,e@f:g$h.txt",
    "it's (1)!~*.txt",
    '[x]{y}|^`"<>.txt',
    "größe-日本語-🙂.txt",
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[JupyterLab]:
    """A running JupyterLab."""
    async with JupyterLab(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def jupyter_mesh(lab: JupyterLab, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DemoMesh]:
    """A mesh with the shipped policy, and JupyterLab behind it."""
    folder, envoy = tmp_path_factory.mktemp("mesh"), {"upstream_port": lab.port}
    async with DemoMesh(folder, settings={"lookups": LOOKUPS}, envoy=envoy) as running:
        yield running


Open = Callable[[str, str], Notebook]


@pytest.fixture
def notebook(client: ClientSession, jupyter_mesh: DemoMesh) -> Open:
    """Return the notebook server as one user sees it, through one of Envoy's listeners."""
    valid = tokens(jupyter_mesh.signer)

    def make(user: str, mode: str) -> Notebook:
        return Notebook(client, jupyter_mesh.urls[mode], {"authorization": f"Bearer {valid[user]}"})

    return make


async def _kernel(notebook: Notebook) -> str:
    status, made = await notebook.call("POST", "/api/kernels", json={"name": "python3"})
    assert status == 201
    return str(made["id"])


@pytest.mark.parametrize("mode", MODES)
async def test_the_owner_runs_code(notebook: Open, mode: str) -> None:
    """Alice opens the page, starts a kernel, and gets 42 for 6*7 over the WebSocket."""
    alice = notebook("alice", mode)
    assert await alice.open() == 200
    kernel = await _kernel(alice)
    assert await alice.run(kernel, "6*7") == "42"
    assert (await alice.call("DELETE", f"/api/kernels/{kernel}"))[0] == 204


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("user", ["erin", "bob", "mallory"])
async def test_a_socket_is_refused_at_the_upgrade(notebook: Open, user: str, mode: str) -> None:
    """A viewer and a stranger who know a kernel's id get 403 instead of a connection to it."""
    alice = notebook("alice", mode)
    await alice.open()
    kernel = await _kernel(alice)
    other = notebook(user, mode)
    for path in (f"/api/kernels/{kernel}/channels", "/terminals/websocket/1", "/lsp/ws/pylsp"):
        with pytest.raises(WSServerHandshakeError) as refused:
            await other.connect(path)
        assert refused.value.status == 403
    _, told = await alice.call("GET", f"/api/kernels/{kernel}")
    assert told["connections"] == 0
    assert (await alice.call("DELETE", f"/api/kernels/{kernel}"))[0] == 204


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("user", ["erin", "bob", "mallory"])
@pytest.mark.parametrize(
    "path", ["", "/", "/lab", "/api", "/api/kernels", "/metrics", "/healthz", "/static/favicon.ico"]
)
async def test_nothing_is_shown_to_others(notebook: Open, user: str, mode: str, path: str) -> None:
    """Every path below the prefix needs the right to change the notebook, metrics and health included."""
    status, told = await notebook(user, mode).call("GET", path)
    assert status == 403
    assert told["reason"] == "Forbidden"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
async def test_files_of_any_name(notebook: Open, lab: JupyterLab, mode: str, name: str) -> None:
    """A file is written, read, listed and removed under every name that JupyterLab's encoding can carry."""
    alice = notebook("alice", mode)
    await alice.open()
    folder, path = f"of {mode}", f"/api/contents/{_component(f'of {mode}')}/{_component(name)}"
    (lab.root / folder).mkdir(exist_ok=True)
    status, _ = await alice.call("PUT", path, json={"type": "file", "format": "text", "content": name})
    assert status == 201
    assert (lab.root / folder / name).read_text() == name
    status, told = await alice.call("GET", f"{path}?type=file&content=1&hash=0&1760000000000")
    assert (status, told["content"], told["name"]) == (200, name, name)
    status, content = await alice.call("GET", f"/files/{_component(folder)}/{_component(name)}")
    assert (status, content) == (200, name.encode())
    assert (await alice.call("DELETE", path))[0] == 204


@pytest.mark.parametrize("mode", MODES)
async def test_a_backslash_in_a_name_is_refused(notebook: Open, lab: JupyterLab, mode: str) -> None:
    """Some servers take a backslash for a slash, so a file of such a name is reached from a terminal only."""
    alice = notebook("alice", mode)
    await alice.open()
    (lab.root / "back\\slash.txt").touch()
    status, told = await alice.call("GET", "/api/contents/back%5Cslash.txt")
    assert (status, told["details"]["causes"][0]["reason"]) == (400, "backslash")


@pytest.mark.parametrize("mode", MODES)
async def test_a_form_reaches_the_notebook(notebook: Open, mode: str) -> None:
    """A login form is posted as one; it is Jupyter that answers, since here only the prefix decides."""
    alice = notebook("alice", mode)
    await alice.open()
    _, page = await alice.call("POST", "/login?next=%2Fnotebook%2Fteam-a%2Fnb%2Flab", data={"password": "x"})
    assert b"<title>Jupyter Server</title>" in page


@pytest.mark.parametrize("mode", MODES)
async def test_without_its_own_cookie_jupyter_refuses_changes(notebook: Open, mode: str) -> None:
    """Jupyter's token against request forgery is a cookie, so a gateway must not take all cookies away."""
    status, told = await notebook("alice", mode).call("POST", "/api/kernels", json={"name": "python3"})
    assert (status, "_xsrf" in told["message"]) == (403, True)


def _component(name: str) -> str:
    """Encode as JavaScript's encodeURIComponent, which is what JupyterLab applies to each part of a path."""
    return quote(name, safe="!~*'()")
