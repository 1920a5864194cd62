"""A real JupyterLab, started as Kubeflow's notebook images start it, and a client of its kernels."""

from __future__ import annotations

import asyncio
import re
import uuid
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any, Self

from aiohttp import ClientSession, ClientWebSocketResponse
from yarl import URL

from extauthz.demo import HOST
from tests.clients.children import drain, stop
from tests.clients.environments import python

BASE = "/notebook/team-a/nb"
"""What the notebook controller sets as NB_PREFIX."""
LOOKUPS = {"kfp": {"url": f"http://{HOST}:1"}}
"""The settings' lookups: the shipped policy needs some, but for notebooks nobody is ever asked."""
START_SECONDS = 60.0
KERNEL_SECONDS = 60.0
READY = """
    while (!window.jupyterapp) await new Promise(done => setTimeout(done, 20));
    await jupyterapp.restored;
"""
"""What a page of JupyterLab runs to wait until it can be used."""
_RUNNING = re.compile(rb"running at:[\s\S]*?http://[^/]+:(\d+)/")


class JupyterLab:
    """JupyterLab below BASE, without a token of its own, as an async context manager. Skips without JupyterLab.

    Notebooks and files lie in `root`.
    """

    _process: Process
    _reader: asyncio.Task[None]

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "work"
        self.port = 0

    async def __aenter__(self) -> Self:
        interpreter = python("jupyter")
        self.root.mkdir(parents=True)
        self._process = await asyncio.create_subprocess_exec(
            interpreter,
            *("-m", "jupyterlab", *self._options()),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            cwd=self.root,
            env={"HOME": str(self._folder), "PATH": f"{interpreter.parent}:/usr/bin:/bin", "SHELL": "/bin/sh"},
        )
        try:
            self.port = await asyncio.wait_for(self._listening(), START_SECONDS)
        except BaseException:
            await stop(self._process)
            raise
        assert self._process.stderr
        self._reader = asyncio.create_task(drain(self._process.stderr))
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop(self._process)
        await self._reader

    def _options(self) -> list[str]:
        return [
            *("--no-browser", "--allow-root", f"--ip={HOST}", "--port=0"),
            "--IdentityProvider.token=",
            "--ServerApp.allow_origin=*",
            f"--ServerApp.base_url={BASE}",
            "--ServerApp.authenticate_prometheus=False",
            f"--ServerApp.root_dir={self.root}",
            "--LabApp.expose_app_in_browser=True",  # for tests that drive the page
            "--LabApp.extension_manager=readonly",  # the other one asks a package registry
        ]

    async def _listening(self) -> int:
        """Return the port that Jupyter chose, which it says when it accepts connections."""
        said = b""
        stderr = self._process.stderr
        assert stderr
        while (found := _RUNNING.search(said)) is None:
            line = await stderr.readline()
            assert line, f"JupyterLab ended: {said.decode()}"
            said += line
        return int(found[1])


class Notebook:
    """What a browser does in one notebook server, for one user, by HTTP and WebSocket below `url`."""

    def __init__(self, client: ClientSession, url: str, headers: dict[str, str]) -> None:
        self._client = client
        self._url = url + BASE
        self._headers = headers

    async def open(self) -> int:
        """Load the page as a browser does, and keep Jupyter's token against request forgery. Returns the status."""
        async with self._client.get(f"{self._url}/lab", headers=self._headers) as response:
            if "_xsrf" in response.cookies:
                token = response.cookies["_xsrf"].value
                self._headers |= {"cookie": f"_xsrf={token}", "x-xsrftoken": token}
            return response.status

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Send a request with its path exactly as written; return the status, and the JSON where there is some."""
        headers = self._headers | options.pop("headers", {})
        url = URL(self._url + path, encoded=True)
        async with self._client.request(method, url, headers=headers, allow_redirects=False, **options) as response:
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else await response.read()

    async def connect(self, path: str) -> ClientWebSocketResponse:
        """Open a WebSocket. Raises aiohttp's WSServerHandshakeError."""
        return await self._client.ws_connect(self._url + path, headers=self._headers, autoclose=True)

    async def run(self, kernel: str, code: str) -> str:
        """Run code in a kernel and return what it shows, over Jupyter's messaging protocol version 5."""
        session = uuid.uuid4().hex
        socket = await self.connect(f"/api/kernels/{kernel}/channels?session_id={session}")
        async with asyncio.timeout(KERNEL_SECONDS), socket:
            request = _execute(code, session)
            await socket.send_json(request)
            async for message in socket:
                told = message.json()
                ours = told["parent_header"].get("msg_id") == request["header"]["msg_id"]
                if ours and told["msg_type"] == "execute_result":
                    return str(told["content"]["data"]["text/plain"])
        raise AssertionError("the kernel went away")


def _execute(code: str, session: str) -> dict[str, Any]:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": session}
    return {
        "channel": "shell",
        "header": {**header, "username": "", "version": "5.3", "date": "2026-01-01T00:00:00Z"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": code, "silent": False, "store_history": False, "allow_stdin": False},
    }
