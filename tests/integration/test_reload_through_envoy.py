"""A policy edited under load, behind a real Envoy: no request fails, and each is decided by one policy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from extauthz.demo.mesh import DemoMesh
from extauthz.policy.rule import Answer
from extauthz.service import Service
from tests.integration.envoy import send

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEADLINE_SECONDS = 20
HEAD = "apiVersion: extauthz.dev/v1\nkind: Policy\nrules:\n"
CLOSED = HEAD + "  - {name: page, match: {path: /page}, allow: authenticated}\n"
OPEN = HEAD + "  - {name: page, match: {path: /page}, allow: public}\n"
SHUT = HEAD + "  - {name: page, match: {path: /page}, deny: Closed for today.}\n"
BROKEN = HEAD + "  - {name: page, match: {path: /page}, allow: everybody}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy folder that lets logged-in users see /page."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "policy.yaml").write_text(CLOSED)
    return folder


@pytest_asyncio.fixture(loop_scope="session")
async def mesh(folder: Path, tmp_path: Path) -> AsyncIterator[DemoMesh]:
    """A mesh over that folder."""
    async with DemoMesh(tmp_path / "state", policies=folder) as running:
        yield running


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until it holds; fails at the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if await holds():
                return
            await asyncio.sleep(0)


async def status(client: ClientSession, mesh: DemoMesh, mode: str = "grpc") -> int:
    """How /page answers somebody without a token."""
    async with send(client, "GET", mesh.urls[mode], "/page") as response:
        return response.status


async def readyz(client: ClientSession, mesh: DemoMesh) -> dict[str, Any]:
    """What the admin listener says."""
    async with client.get(f"{mesh.admin_url}/readyz") as response:
        detail: dict[str, Any] = await response.json()
    assert response.status == 200
    return detail


def replace(file: Path, content: str) -> None:
    """Write as an editor does: beside it, then over it."""
    beside = file.with_name(".new")
    beside.write_text(content)
    beside.rename(file)


async def test_no_request_fails_while_a_policy_changes(mesh: DemoMesh, client: ClientSession, folder: Path) -> None:
    """Of 200 requests, from before to after the edit, each is answered by the old or by the new policy."""
    found: list[int] = []
    edited = asyncio.Event()

    async def ask(mode: str, requests: int) -> None:
        for number in range(requests):
            found.append(await status(client, mesh, mode))
            if len(found) == 50:
                replace(folder / "policy.yaml", OPEN)
                edited.set()
            if number == requests // 2:
                await edited.wait()

    await asyncio.gather(*(ask(mode, 25) for mode in ("grpc", "http") * 4))
    assert len(found) == 200
    assert set(found) <= {401, 200}
    for mode in mesh.urls:
        await until(lambda mode=mode: _is(200, client, mesh, mode))  # type: ignore[misc]  # mypy#15459
    assert (await readyz(client, mesh))["warnings"] == []


async def _is(wanted: int, client: ClientSession, mesh: DemoMesh, mode: str = "grpc") -> bool:
    found = await status(client, mesh, mode)
    assert found in (200, 401, 403)
    return found == wanted


async def test_a_broken_edit_leaves_the_last_good_policy(
    mesh: DemoMesh, client: ClientSession, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The fault is in the log and in /readyz with file and line; a repair is taken up."""
    file = folder / "policy.yaml"

    async def warned() -> bool:
        return bool((await readyz(client, mesh))["warnings"])

    async def quiet() -> bool:
        return not await warned()

    with caplog.at_level(logging.ERROR, logger="extauthz"):
        replace(file, BROKEN)
        await until(warned)
    (warning,) = (await readyz(client, mesh))["warnings"]
    assert "the last good one serves" in warning
    assert f"{file}:4:" in warning
    assert warning in caplog.text
    assert [await status(client, mesh, mode) for mode in mesh.urls] == [401, 401]
    file.unlink()
    await until(warned)
    assert await status(client, mesh) == 401
    replace(file, OPEN)
    await until(quiet)
    await until(lambda: _is(200, client, mesh))


async def test_a_config_map_is_followed(tmp_path: Path, client: ClientSession) -> None:
    """Kubelet swaps the link `..data` from one folder to another, time and again."""
    mount = tmp_path / "mount"

    def publish(name: str, content: str) -> None:
        version = mount / name
        version.mkdir(parents=True)
        (version / "policy.yaml").write_text(content)
        (mount / "..data_tmp").symlink_to(name)
        (mount / "..data_tmp").rename(mount / "..data")

    publish("..1", CLOSED)
    (mount / "policy.yaml").symlink_to("..data/policy.yaml")
    async with DemoMesh(tmp_path / "state", policies=mount) as mesh:
        assert await status(client, mesh) == 401
        publish("..2", OPEN)
        await until(lambda: _is(200, client, mesh))
        publish("..3", SHUT)
        for file in (mount / "..1", mount / "..2"):
            (file / "policy.yaml").unlink()
            file.rmdir()
        await until(lambda: _is(403, client, mesh))
        assert (await readyz(client, mesh))["warnings"] == []


async def test_an_edit_between_loading_and_watching_is_not_missed(mesh: DemoMesh, folder: Path) -> None:
    """A slow start must not leave the service with a policy that nobody sees any more."""
    service = Service(mesh.service.settings)
    replace(folder / "policy.yaml", OPEN)
    await service.start()

    async def opened() -> bool:
        return any(rule.answer is Answer.PUBLIC for rule in service.gateway.policy.rules)

    try:
        await until(opened)
    finally:
        await service.stop()
