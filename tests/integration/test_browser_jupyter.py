"""JupyterLab's own page in a real browser, with the session cookie that oauth2-proxy gives it, through a real Envoy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from extauthz.demo.mesh import DemoMesh
from extauthz.demo.scenario import tokens
from tests.clients.browser import Browser
from tests.clients.jupyter import BASE, LOOKUPS, READY, JupyterLab
from tests.oauth2proxy import COOKIE, OAuth2Proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOLDER = "a dir # 1%"
NAMES = [
    *("two words.txt", "100%.txt", "100%25.txt", "sharp#1.txt", "what?.txt", "semi;colon.txt"),
    *("a&b=c+d,e@f:g$h.txt", "it's (1)!~*.txt", '[x]{y}|^`"<>.txt', "größe-日本語-🙂.txt"),
]
_CELL: dict[str, Any] = {
    "cell_type": "code",
    "execution_count": None,
    "id": "a",
    "metadata": {},
    "outputs": [],
    "source": "6*7",
}
_KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
NOTEBOOK = {"cells": [_CELL], "metadata": {"kernelspec": _KERNEL}, "nbformat": 4, "nbformat_minor": 5}

RUN = """
    const notebook = await jupyterapp.commands.execute('docmanager:open', {path: 'answer.ipynb'});
    await notebook.context.ready;
    await notebook.sessionContext.ready;
    await jupyterapp.commands.execute('notebook:run-all-cells');
    return notebook.content.widgets[0].model.outputs.get(0).toJSON().data['text/plain'];
"""
EDIT = """
    const shown = await jupyterapp.commands.execute('docmanager:open', {path});
    await shown.context.ready;
    const contents = jupyterapp.serviceManager.contents;
    await contents.save(path, {type: 'file', format: 'text', content: path});
    const checkpoint = await contents.createCheckpoint(path);
    await contents.restoreCheckpoint(path, checkpoint.id);
    const text = await (await fetch(await contents.getDownloadUrl(path))).text();
    await contents.rename(path, path + '2');
    await contents.delete(path + '2');
    return text;
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[JupyterLab]:
    """A running JupyterLab."""
    async with JupyterLab(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def proxy() -> AsyncIterator[OAuth2Proxy]:
    """An oauth2-proxy without sessions."""
    async with OAuth2Proxy() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mesh_of_browsers(
    lab: JupyterLab, proxy: OAuth2Proxy, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[DemoMesh]:
    """A mesh with the shipped policy that knows sessions; alice and erin have one."""
    folder, envoy = tmp_path_factory.mktemp("mesh"), {"upstream_port": lab.port}
    settings = {"identity": {"session": {"url": proxy.url, "cookie": COOKIE}}, "lookups": LOOKUPS}
    async with DemoMesh(folder, settings=settings, envoy=envoy) as running:
        proxy.sessions |= tokens(running.signer)
        yield running


def _fill(folder: Path) -> None:
    (folder / "answer.ipynb").write_text(json.dumps(NOTEBOOK))
    (folder / FOLDER).mkdir(exist_ok=True)
    for name in NAMES:
        (folder / FOLDER / name).write_text("old")


@pytest.mark.parametrize("mode", ["grpc", "http"])
async def test_jupyterlab_works_in_a_browser(
    lab: JupyterLab, mesh_of_browsers: DemoMesh, tmp_path: Path, mode: str
) -> None:
    """The page loads, a notebook runs, files of any name are changed, and not one request is refused."""
    url = mesh_of_browsers.urls[mode]
    _fill(lab.root)
    async with Browser(tmp_path / "chromium") as browser:
        await browser.keep(url, COOKIE, "alice")
        await browser.open(f"{url}{BASE}/lab")
        await browser.run(READY)
        assert await browser.run(RUN) == "42"
        for name in NAMES:
            path = f"{FOLDER}/{name}"
            assert await browser.run(f"const path = {json.dumps(path)};{EDIT}") == path
    assert {answer.status for answer in browser.seen if answer.url == "websocket"} == {HTTPStatus.SWITCHING_PROTOCOLS}
    assert {answer for answer in browser.seen if answer.status in (400, 401, 403, 503)} == set()


async def test_a_viewer_reads_in_the_browser_what_is_missing(mesh_of_browsers: DemoMesh, tmp_path: Path) -> None:
    """Erin gets a page that names her, the right and the namespace."""
    url = mesh_of_browsers.urls["grpc"]
    async with Browser(tmp_path / "chromium") as browser:
        await browser.keep(url, COOKIE, "erin")
        await browser.open(f"{url}{BASE}/lab")
        told = await browser.run("return document.body.innerText")
    assert browser.seen[0].status == HTTPStatus.FORBIDDEN
    assert all(word in told for word in ("erin@example.com", "update", "notebooks", "team-a"))
