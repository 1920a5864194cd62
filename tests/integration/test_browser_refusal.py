"""The refusal in a real browser, through a real Envoy in both modes and before every server of ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from extauthz.demo.mesh import DemoMesh
from extauthz.demo.scenario import tokens
from tests.clients.browser import Browser
from tests.clients.readable import FAULTS
from tests.oauth2proxy import COOKIE, OAuth2Proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVIL = "<img src=x onerror=alert(1)>@example.com"
LOGO = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHdpZHRoPSI4IiBoZWlnaHQ9IjgiLz4="
NOTEBOOK = "/notebook/team-a/nb/lab"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """A browser."""
    async with Browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["library", "native"])
async def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DemoMesh]:
    """A mesh with sessions for browsers, before each kind of server, and a page with a logo and a link for help."""
    page = {"logo": LOGO, "helpLink": "mailto:help@example.com?subject={namespace}"}
    async with OAuth2Proxy() as proxy:
        settings = {
            "identity": {"session": {"url": proxy.url, "cookie": COOKIE}},
            "response": {"refusalPage": page},
            "listeners": _servers(request.param),
        }
        async with DemoMesh(tmp_path_factory.mktemp("mesh"), settings=settings) as running:
            proxy.sessions |= {**tokens(running.signer), "evil": running.signer.sign(EVIL)}
            yield running


def _servers(kind: str) -> dict[str, dict[str, str]]:
    names = {"library": ("grpcio", "aiohttp"), "native": ("native", "native")}[kind]
    return dict(zip(("grpc", "http"), ({"server": name} for name in names), strict=True))


async def refused(browser: Browser, house: DemoMesh, mode: str, who: str, path: str) -> str:
    """Go where somebody may not; return what the browser shows."""
    url = house.urls[mode]
    await browser.keep(url, COOKIE, who)
    browser.seen.clear()
    browser.complaints.clear()
    await browser.open(url + path)
    told: str = await browser.run("return document.body.innerText")
    return told


@pytest.mark.parametrize("mode", ["grpc", "http"])
async def test_a_person_reads_what_is_missing_and_whom_to_ask(browser: Browser, house: DemoMesh, mode: str) -> None:
    """The right, the namespace and its owner, the way to another namespace, and the request's id."""
    told = await refused(browser, house, mode, "erin", NOTEBOOK)
    assert browser.seen[0].status == HTTPStatus.FORBIDDEN
    for words in ("update notebooks.kubeflow.org", "team-a", "erin@example.com", "alice@example.com", "Request"):
        assert words in told
    links = await browser.run("return [...document.links].map(link => [link.getAttribute('href'), link.target])")
    assert links == [["/", "_top"], ["mailto:help@example.com?subject=team-a", "_top"]]
    assert await browser.run("return document.images[0].naturalWidth") == 8
    assert [answer.url for answer in browser.seen if not answer.url.startswith("data:")] == [
        house.urls[mode] + NOTEBOOK
    ]
    assert browser.complaints == []


@pytest.mark.parametrize("mode", ["grpc", "http"])
async def test_a_name_that_would_like_to_be_a_script_is_text(browser: Browser, house: DemoMesh, mode: str) -> None:
    """And so is whatever stands in path and query."""
    told = await refused(browser, house, mode, "evil", f"{NOTEBOOK}/%3Cscript%3E?a='%22%3E<script>alert(1)</script>")
    assert EVIL in told
    assert await browser.run("return [document.images.length, document.scripts.length]") == [1, 0]
    assert browser.complaints == []


@pytest.mark.parametrize("mode", ["grpc", "http"])
async def test_parts_of_a_page_get_nothing_to_parse(house: DemoMesh, client: ClientSession, mode: str) -> None:
    """Scripts, styles and images are refused without a body; what a script fetches gets a Status."""
    told: dict[str, bytes] = {}
    for destination in ("script", "style", "image", "font", "empty"):
        headers = {"cookie": f"{COOKIE}=erin", "sec-fetch-dest": destination, "sec-fetch-mode": "cors", "accept": "*/*"}
        async with client.get(house.urls[mode] + NOTEBOOK, headers=headers) as response:
            assert response.status == HTTPStatus.FORBIDDEN
            told[destination] = await response.read()
    assert json.loads(told.pop("empty"))["kind"] == "Status"
    assert set(told.values()) == {b""}


async def test_the_page_can_be_read_by_everybody(browser: Browser, house: DemoMesh) -> None:
    """On a desk and on a phone, by day and by night, with nothing but a keyboard."""
    for width in (1000, 360):
        for dark in (False, True):
            await browser.look(width=width, dark=dark)
            await refused(browser, house, "grpc", "erin", NOTEBOOK)
            assert await browser.run(FAULTS) == []
            assert await browser.run("return document.documentElement.scrollWidth <= innerWidth")
    for selector in ("a.button", "a:not(.button)", "summary"):
        await browser.press("Tab")
        assert await browser.run(f"return document.activeElement.matches('{selector}')")
    await browser.press("Enter")
    assert await browser.run("return document.querySelector('details').open")
    assert browser.complaints == []


async def test_a_forbidden_and_a_missing_object_look_alike(browser: Browser, house: DemoMesh) -> None:
    """To the letter, but for the ids of the requests; and nobody's name is told."""
    pages = [
        await refused(browser, house, "grpc", "erin", f"/pipeline/apis/v2beta1/runs/{run}")
        for run in ("first-b", "first-z")
    ]
    first, second = (page[: page.rindex("Request")] for page in pages)
    assert first == second
    assert "bob" not in first
    assert "team-b" not in first


@pytest.mark.parametrize("mode", ["grpc", "http"])
async def test_grpc_web_is_told_a_status(house: DemoMesh, client: ClientSession, mode: str) -> None:
    """As the pipelines UI asks the metadata store."""
    headers = {"cookie": f"{COOKIE}=erin", "content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    async with client.post(f"{house.urls[mode]}/made.up.Service/Method", headers=headers, data=b"\0" * 5) as response:
        assert response.status == HTTPStatus.FORBIDDEN
        assert response.headers["grpc-status"] == "7"
        assert response.headers["grpc-message"].startswith("This path belongs to no known part")
        assert await response.read() == b""
