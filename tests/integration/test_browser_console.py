"""The console in a real browser: by keyboard, in both colour schemes, and with names that would like to be scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from yarl import URL

from extauthz.console.guard import COOKIE
from extauthz.demo.mesh import DemoMesh
from extauthz.demo.scenario import tokens
from tests.clients.browser import Browser
from tests.clients.readable import FAULTS

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVIL = "<img src=x onerror=alert(1)>"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """A browser."""
    async with Browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


async def sign_in(browser: Browser, mesh: DemoMesh, who: str) -> str:
    """Be somebody; return the console's address."""
    url = f"{mesh.admin_url}/console/"
    await browser.keep(url, COOKIE, tokens(mesh.signer)[who])
    return url


async def focus(browser: Browser, selector: str) -> None:
    """Press Tab until something has the focus."""
    for _ in range(60):
        if await browser.run(f"return document.activeElement.matches({selector!r})"):
            return
        await browser.press("Tab")
    raise AssertionError(f"no Tab leads to {selector}")


async def text(browser: Browser) -> str:
    """Return what can be read."""
    told: str = await browser.run("return document.querySelector('main').innerText")
    return told


async def test_signing_in_and_around_by_keyboard(browser: Browser, mesh: DemoMesh) -> None:
    """From the token to an explained request without a mouse, with a visible focus and a way past the navigation."""
    await browser.open(f"{mesh.admin_url}/console/")
    assert await browser.run("return document.activeElement.id") == "token"
    await browser.write(tokens(mesh.signer)["admin"])
    await browser.press("Enter")
    await browser.arrive("Overview")
    await browser.press("Tab")
    assert await browser.run("return document.activeElement.innerText") == "Skip to content"
    await focus(browser, "nav a[href$=rules]")
    assert await browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await browser.press("Enter")
    await browser.arrive("Rules")
    assert await browser.run("return document.querySelector('[aria-current=page]').innerText") == "Rules"
    await focus(browser, "#q")
    await browser.write("notebook dataplanes")
    await browser.press("Enter")
    await browser.arrive("Rules", "q=notebook")
    assert await browser.run("return document.querySelectorAll('tbody tr').length") < 30
    await focus(browser, "nav a[href$=explain]")
    await browser.press("Enter")
    await browser.arrive("Explain")
    await focus(browser, "#url")
    await browser.write("/notebook/team-a/nb/")
    await focus(browser, "#user")
    await browser.write("erin@example.com")
    await browser.press("Enter")
    await browser.arrive("Explained")
    assert "cannot update resource" in await text(browser)
    await focus(browser, ".who button")
    await browser.press("Enter")
    await browser.arrive("Sign in")
    await browser.open(f"{mesh.admin_url}/console/decisions")
    assert await browser.run("return document.querySelector('#token') !== null")
    assert browser.complaints == []


async def test_what_was_chosen_by_strangers_is_text(browser: Browser, mesh: DemoMesh, client: ClientSession) -> None:
    """In path, query, headers and user, on every page, filled in again or listed."""
    token = mesh.signer.sign(f"{EVIL}@example.com", [EVIL])
    headers = {"authorization": f"Bearer {token}", "x-request-id": EVIL, "host": "a'b"}
    target = f"{mesh.urls['grpc']}/notebook/team-a/%3Cscript%3Ealert(1)%3C/?x=%22%3E{EVIL}"
    async with client.get(URL(target.replace(" ", "%20"), encoded=True), headers=headers) as response:
        assert response.status == 403
    url = await sign_in(browser, mesh, "admin")
    await browser.open(f"{url}decisions")
    assert f"{EVIL}@example.com" in await text(browser)
    await browser.run("document.querySelector('tbody a').click()")
    await browser.arrive("Decision ")
    assert EVIL in await text(browser)
    await browser.run("document.querySelector('a.button').click()")
    await browser.arrive("Explain")
    assert await browser.run("return document.querySelector('#user').value") == f"{EVIL}@example.com"
    await browser.run("document.querySelector('form.explain').requestSubmit()")
    await browser.arrive("Explained")
    assert EVIL in await text(browser)
    for query in (
        f'rules?q="><script>{EVIL}',
        f"decisions?q={EVIL}&user={EVIL}&rule='><b>&live=1",
        f"explain?body={EVIL}",
    ):
        await browser.open(str(URL(url + query)))
        assert await browser.run("return document.querySelectorAll('main img, main script, main b').length") == 0
    assert browser.complaints == []


async def test_decisions_are_filtered(browser: Browser, mesh: DemoMesh, client: ClientSession) -> None:
    """By who asked and how it ended; and cleared again."""
    known = tokens(mesh.signer)
    for who in ("erin", "alice"):
        headers = {"authorization": f"Bearer {known[who]}"}
        async with client.get(f"{mesh.urls['http']}/notebook/team-a/nb/", headers=headers) as response:
            assert response.status == {"erin": 403, "alice": 200}[who]
    url = await sign_in(browser, mesh, "admin")
    await browser.open(f"{url}decisions")
    await browser.run(
        "document.querySelector('#user').value = 'erin'; document.querySelector('#outcome').value = 'deny'"
    )
    await browser.run("document.querySelector('form.filter').requestSubmit()")
    await browser.arrive("Decisions", "user=erin")
    users = await browser.run("return [...document.querySelectorAll('td.user')].map(cell => cell.innerText)")
    assert set(users) == {"erin@example.com"}
    assert await browser.run("return document.querySelector('a.button').href") == f"{url}decisions"
    assert browser.complaints == []


@pytest.mark.parametrize("page", ["", "rules", "decisions", "explain", "login"])
async def test_pages_can_be_read_by_everybody(browser: Browser, mesh: DemoMesh, page: str) -> None:
    """One main heading, landmarks, a label for each field, headers for tables, and enough contrast in both schemes."""
    url = await sign_in(browser, mesh, "admin")
    for dark in (False, True):
        await browser.look(dark=dark)
        await browser.open(url + page)
        assert await browser.run(FAULTS) == []
    await browser.look(width=390, dark=False)
    await browser.open(url + page)
    assert await browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints == []
