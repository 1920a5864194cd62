"""`python -m tests.clients.pictures FOLDER`: the docs' pictures, of the demo in a real Chromium.

The demo is used for SECONDS first, so that there is something to see.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from aiohttp import ClientSession

from extauthz.console.guard import COOKIE
from extauthz.demo.mesh import DemoMesh
from extauthz.demo.scenario import CASES, tokens, verify
from tests.clients.browser import Browser

SECONDS = 180
"""How long the demo is used before its pictures are taken."""

LOGO = (
    "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCAyNCAyNCI+PHBhdGgg"
    "ZD0iTTEyIDIgMyA3djEwbDkgNSA5LTVWN3oiIGZpbGw9Im5vbmUiIHN0cm9rZT0iIzFhNWZkMCIgc3Ryb2tlLXdpZHRoPSIyIi8+PC9zdmc+"
)
PAGE = {"platform": "Example ML Platform", "logo": LOGO, "helpLink": "mailto:ml@example.com?subject={namespace}"}
NOTEBOOK = "/notebook/team-a/nb/"
CONSOLE = {
    "console-overview": "",
    "console-rules": "rules?q=runs+list",
    "console-decisions": "decisions?outcome=deny",
    "console-explain": f"explain?url={NOTEBOOK}&user=erin@example.com",
}


async def main(folder: Path) -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        async with (
            DemoMesh(Path(scratch, "mesh"), settings={"response": {"refusalPage": PAGE}}) as mesh,
            Browser(Path(scratch, "chromium")) as browser,
        ):
            await _use(mesh)
            await _take_refusals(browser, mesh, folder)
            await _take_console(browser, mesh, folder)


async def _use(mesh: DemoMesh) -> None:
    known, until = tokens(mesh.signer), time.monotonic() + SECONDS
    async with ClientSession() as client:
        await verify(client, mesh)
        while time.monotonic() < until:
            case = random.choice(CASES)
            headers = {"authorization": f"Bearer {known[case.who]}"} if case.who else {}
            async with client.request(case.method, mesh.urls["grpc"] + case.path, headers=headers, json=case.body):
                await asyncio.sleep(random.expovariate(20))


async def _take_refusals(browser: Browser, mesh: DemoMesh, folder: Path) -> None:
    await browser.send({"authorization": f"Bearer {tokens(mesh.signer)['erin']}"})
    for name, width, height, dark in (("refusal", 820, 720, False), ("refusal-phone-dark", 390, 800, True)):
        await browser.look(width=width, height=height, dark=dark)
        await browser.open(mesh.urls["grpc"] + NOTEBOOK)
        (folder / f"{name}.png").write_bytes(await browser.picture())
    await browser.send({})


async def _take_console(browser: Browser, mesh: DemoMesh, folder: Path) -> None:
    url = f"{mesh.admin_url}/console/"
    await browser.keep(url, COOKIE, tokens(mesh.signer)["admin"])
    for name, path in CONSOLE.items():
        await browser.look(width=1280, height=720, dark=name == "console-overview")
        await browser.open(url + path)
        if name == "console-explain":
            await browser.run("document.querySelector('form.explain').requestSubmit()")
            await browser.arrive("Explained")
        (folder / f"{name}.png").write_bytes(await browser.picture())


if __name__ == "__main__":
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(into))
