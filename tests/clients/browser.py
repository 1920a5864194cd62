"""A real Chromium without a window, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from tests.clients.children import drain, stop

START_SECONDS = 60.0
SECONDS = 60.0
_LISTENING = re.compile(rb"DevTools listening on ws://([^/]+)/")
_QUIET = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"),
    # A page that wants something from the internet is told at once that there is none.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer that the page got, WebSocket handshakes included."""

    status: int
    url: str


class Browser:
    """One page of a browser with a fresh profile, as an async context manager. Skips without Chromium.

    `seen` lists all answers in order; `complaints` what the browser said against a page: violations of
    its Content-Security-Policy, uncaught exceptions, and what scripts wrote to the console.
    """

    _socket: ClientWebSocketResponse

    def __init__(self, folder: Path) -> None:
        self.seen: list[Seen] = []
        self.complaints: list[str] = []
        self._folder = folder
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._heard = asyncio.Condition()
        self._loads = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            process = await self._start()
            stack.push_async_callback(stop, process)
            address = await asyncio.wait_for(_listening(process), START_SECONDS)
            assert process.stderr
            _background(stack, drain(process.stderr))
            client = await stack.enter_async_context(ClientSession())
            async with client.get(f"http://{address}/json") as response:
                (page,) = (target for target in await response.json(content_type=None) if target["type"] == "page")
            self._socket = await client.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
            stack.push_async_callback(self._socket.close)
            _background(stack, self._read())
            for domain in ("Network", "Page", "Runtime", "Log"):
                await self._ask(f"{domain}.enable")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def keep(self, url: str, name: str, value: str) -> None:
        """Put a cookie into the browser."""
        await self._ask("Network.setCookie", url=url, name=name, value=value, httpOnly=True)

    async def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        await self._ask("Page.navigate", url=url)
        await self.run("if (document.readyState != 'complete') await new Promise(done => onload = done)")

    @asynccontextmanager
    async def leaving(self) -> AsyncIterator[None]:
        """Wait, after what is done inside, until the page that it leads to is loaded."""
        before = self._loads
        yield
        await self._until(partial(self._has_loaded, before))

    async def answered(self, status: int) -> None:
        """Wait until the page has got an answer of this status."""
        await self._until(lambda: any(answer.status == status for answer in self.seen))

    async def text(self) -> str:
        """Return what can be read on the page."""
        return str(await self.run("return document.body.innerText"))

    async def click(self, selector: str) -> None:
        """Click with the mouse in the middle of the first element that a CSS selector finds."""
        place = await self.run(
            f"const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return {x: box.x + box.width / 2, y: box.y + box.height / 2};"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self._ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    async def arrive(self, title: str, query: str = "") -> None:
        """Wait until a page is there that a key or a click has led to: its title, and what its query holds."""
        seen = self._loads
        while not await self._is_at(title, query):
            await self._until(partial(self._has_loaded, seen))
            seen = self._loads

    def _has_loaded(self, before: int) -> bool:
        return self._loads > before

    async def _is_at(self, title: str, query: str) -> bool:
        expression = "document.readyState == 'complete' ? document.title + '\\n' + location.search : ''"
        told = await self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        found, _, search = str(told["result"].get("value", "")).partition("\n")
        return title in found and query in search

    async def send(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every request from now on."""
        await self._ask("Network.setExtraHTTPHeaders", headers=dict(headers))

    async def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key, such as `Tab` or `Enter`, where the focus is."""
        code, text = _KEYS[key]
        pressed = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        await self._ask("Input.dispatchKeyEvent", type="keyDown", text=text, **pressed)
        await self._ask("Input.dispatchKeyEvent", type="keyUp", **pressed)

    async def write(self, text: str) -> None:
        """Write where the focus is."""
        await self._ask("Input.insertText", text=text)

    async def look(self, *, width: int = 1000, height: int = 700, dark: bool = False) -> None:
        """Look at pages through a window of this size, in CSS pixels, and in this colour scheme."""
        size = {"width": width, "height": height}
        await self._ask("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._ask("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, *, whole: bool = False) -> bytes:
        """Return what can be seen of the page, or with `whole` all of it, as PNG."""
        return base64.b64decode((await self._ask("Page.captureScreenshot", captureBeyondViewport=whole))["data"])

    async def run(self, script: str) -> Any:
        """Run the body of an asynchronous JavaScript function in the page, and return what it returns."""
        told = await self._ask(
            "Runtime.evaluate", expression=f"(async () => {{{script}}})()", awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def _start(self) -> Process:
        binary = os.environ.get("CHROMIUM") or shutil.which("chromium")
        if binary is None:
            pytest.skip("chromium is missing: apt-get install chromium, or name one in CHROMIUM")
        arguments = (*_QUIET, "--remote-debugging-port=0", f"--user-data-dir={self._folder / 'profile'}", "about:blank")
        environment = {**os.environ, "HOME": str(self._folder)}
        return await asyncio.create_subprocess_exec(
            binary, *arguments, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=environment
        )

    async def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        told = await asyncio.wait_for(self._waiting[number], SECONDS)
        assert "error" not in told, told
        return told["result"]

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._heard:
            await self._heard.wait_for(condition)

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._waiting.pop(told["id"]).set_result(told)
            elif told["method"] == "Page.loadEventFired":
                self._loads += 1
            elif note := _NOTES.get(told["method"]):
                self.seen.append(note(told["params"]))
            elif complaint := _COMPLAINTS.get(told["method"]):
                self.complaints += complaint(told["params"])
            async with self._heard:
                self._heard.notify_all()


def _answered(event: Any) -> Seen:
    return Seen(event["response"]["status"], event["response"]["url"])


_NOTES: dict[str, Callable[[Any], Seen]] = {
    "Network.responseReceived": _answered,
    "Network.webSocketHandshakeResponseReceived": lambda event: Seen(event["response"]["status"], "websocket"),
}


def _logged(event: Any) -> list[str]:
    # That a page was refused is no complaint about the page that says so.
    entry = event["entry"]
    return [] if entry["source"] == "network" else [f"{entry['level']}: {entry['text']}"]


_COMPLAINTS: dict[str, Callable[[Any], list[str]]] = {
    "Log.entryAdded": _logged,
    "Runtime.consoleAPICalled": lambda event: [f"console.{event['type']}"],
    "Runtime.exceptionThrown": lambda event: [str(event["exceptionDetails"]["text"])],
}
_KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}
"""The code of a key, and what it writes."""


def _background(stack: AsyncExitStack, work: Any) -> None:
    task = asyncio.create_task(work)
    stack.callback(task.cancel)


async def _listening(process: Process) -> str:
    """Return where the DevTools are, which Chromium says when it is ready."""
    said = b""
    assert process.stderr
    while (found := _LISTENING.search(said)) is None:
        line = await process.stderr.readline()
        assert line, f"Chromium ended: {said.decode()}"
        said += line
    return found[1].decode()
