"""Hot reload: every way in which files change is seen, and only a good policy ever serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from extauthz import policy
from extauthz.policy import Policy, files
from extauthz.policy.reload import PolicyWatch
from tests.unit.policy.build import HEAD, KEYS

DEADLINE = 15.0
"""Seconds after which a change that was never seen fails a test."""


def text(*names: str) -> str:
    """Return a policy with one rule per name."""
    return HEAD + "rules:" + "".join(f"\n- {{name: {name}, match: {{path: /{name}}}, allow: public}}" for name in names)


class Errors(logging.Handler):
    """Wakes whoever waits for the watch to log an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.set()


class Watched:
    """A running watch, the newest policy that it gave, and waiting for the next."""

    def __init__(self, *paths: Path) -> None:
        self.names: list[str] = []
        self.errors = Errors()
        self._changed = asyncio.Event()
        self.watch = PolicyWatch(paths, load=lambda: policy.load(paths, KEYS), changed=self._take)

    def _take(self, loaded: Policy) -> None:
        self.names = [rule.ref.name for rule in loaded.rules]
        self._changed.set()

    async def until(self, *names: str) -> None:
        """Wait until the policy has just these rules and nothing is wrong."""
        async with asyncio.timeout(DEADLINE):
            while self.names != list(names):
                await self._changed.wait()
                self._changed.clear()
        assert self.watch.problem == ""

    async def until_broken(self) -> str:
        """Wait until the newest files cannot be used; return what is wrong."""
        async with asyncio.timeout(DEADLINE):
            while not self.watch.problem:
                await self.errors.seen.wait()
                self.errors.seen.clear()
        return self.watch.problem


@contextlib.asynccontextmanager
async def watching(*paths: Path) -> AsyncIterator[Watched]:
    """Watch paths; the watch ends with the block."""
    watched = Watched(*paths)
    logger = logging.getLogger("extauthz.policy.reload")
    logger.addHandler(watched.errors)
    task = asyncio.create_task(watched.watch.run())
    try:
        yield watched
    finally:
        watched.watch.stop()
        logger.removeHandler(watched.errors)
        await asyncio.wait_for(task, DEADLINE)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with one policy file."""
    found = tmp_path / "policies"
    found.mkdir()
    (found / "a.yaml").write_text(text("a"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


def replace(file: Path, content: str) -> None:
    """Replace a file in one step, as careful editors do."""
    new = file.with_name(file.name + ".new")
    new.write_text(content)
    new.replace(file)


@pytest.mark.parametrize("watch_file", [False, True])
async def test_an_edited_file_serves(folder: Path, watch_file: bool) -> None:
    """Writing to a file, replacing it and writing again are all seen, by file and by folder."""
    file = folder / "a.yaml"
    async with watching(file if watch_file else folder) as watched:
        file.write_text(text("b"))
        await watched.until("b")
        replace(file, text("c"))
        await watched.until("c")
        file.write_text(text("d"))
        await watched.until("d")


async def test_files_and_folders_come_and_go(folder: Path) -> None:
    """New files, files of new folders and removed files change the policy."""
    async with watching(folder) as watched:
        (folder / "b.yaml").write_text(text("b"))
        await watched.until("a", "b")
        (folder / "sub" / "deep").mkdir(parents=True)
        (folder / "sub" / "deep" / "c.yaml").write_text(text("c"))
        await watched.until("a", "b", "c")
        (folder / "sub" / "deep" / "c.yaml").write_text(text("d"))
        await watched.until("a", "b", "d")
        shutil.rmtree(folder / "sub")
        (folder / "b.yaml").unlink()
        await watched.until("a")


async def test_a_broken_edit_keeps_the_last_good_policy(folder: Path) -> None:
    """The problem is told while the last good policy serves, and gone when the file is mended."""
    file = folder / "a.yaml"
    async with watching(folder) as watched:
        file.write_text(text("b"))
        await watched.until("b")
        file.write_text(text("c") + "\n- {name: c, match: {path: /c}, alow: public}")
        problem = await watched.until_broken()
        assert "policy not reloaded, the last good one serves" in problem
        assert "a.yaml:5:32: unknown key 'alow' (hint: did you mean 'allow'?)" in problem
        assert watched.names == ["b"]
        file.write_text(text("d"))
        await watched.until("d")


@pytest.mark.parametrize("content", ["", "# gone\n", "\x00", "rules"])
async def test_an_emptied_or_garbled_file_keeps_the_last_good_policy(folder: Path, content: str) -> None:
    """An edit under way unloads nothing."""
    async with watching(folder) as watched:
        (folder / "a.yaml").write_text(content)
        await watched.until_broken()
        assert watched.names == []
        (folder / "a.yaml").write_text(text("a", "b"))
        await watched.until("a", "b")


@pytest.mark.parametrize("watch_file", [False, True])
async def test_a_config_map_swap_serves(tmp_path: Path, watch_file: bool) -> None:
    """kubelet swaps the link `..data` and removes the old folder; the files' own links stay."""
    mount = tmp_path / "mount"
    (mount / "..1").mkdir(parents=True)
    (mount / "..1" / "a.yaml").write_text(text("a"))
    (mount / "..data").symlink_to("..1")
    (mount / "a.yaml").symlink_to("..data/a.yaml")
    async with watching(mount / "a.yaml" if watch_file else mount) as watched:
        for number, name in ((2, "b"), (3, "c")):
            (mount / f"..{number}").mkdir()
            (mount / f"..{number}" / "a.yaml").write_text(text(name))
            (mount / "..data_tmp").symlink_to(f"..{number}")
            (mount / "..data_tmp").replace(mount / "..data")
            shutil.rmtree(mount / f"..{number - 1}")
            await watched.until(name)


async def test_a_linked_file_is_watched_where_it_lies(tmp_path: Path) -> None:
    """The target's own folder counts, and so does pointing the link elsewhere."""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "real.yaml").write_text(text(name))
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "policy.yaml"
    link.symlink_to("../x/real.yaml")
    async with watching(link) as watched:
        (tmp_path / "x" / "real.yaml").write_text(text("x2"))
        await watched.until("x2")
        (tmp_path / "links" / "new").symlink_to("../y/real.yaml")
        (tmp_path / "links" / "new").replace(link)
        await watched.until("y")
        replace(tmp_path / "y" / "real.yaml", text("y2"))
        await watched.until("y2")


async def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    """A path that is a link to a folder is watched on both sides of the link."""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(text(name))
    link = tmp_path / "current"
    link.symlink_to("x")
    async with watching(link) as watched:
        (tmp_path / "x" / "a.yaml").write_text(text("x2"))
        await watched.until("x2")
        (tmp_path / "new").symlink_to("y")
        (tmp_path / "new").replace(link)
        await watched.until("y")
        (tmp_path / "y" / "a.yaml").write_text(text("y2"))
        await watched.until("y2")


async def test_a_deleted_file_or_folder_keeps_the_last_good_policy(folder: Path) -> None:
    """What is gone is a mistake until it is back, in the same place or in a new folder of that name."""
    copy = folder.with_name("copy")
    copy.mkdir()
    (copy / "a.yaml").write_text(text("c"))
    async with watching(folder) as watched:
        (folder / "a.yaml").unlink()
        assert "no YAML file in this folder" in await watched.until_broken()
        (folder / "a.yaml").write_text(text("b"))
        await watched.until("b")
        shutil.rmtree(folder)
        await watched.until_broken()
        shutil.copytree(copy, folder)
        await watched.until("c")
        (folder / "a.yaml").write_text(text("d"))
        await watched.until("d")
        assert watched.names == ["d"]


async def test_a_change_before_the_watch_runs_is_seen(folder: Path) -> None:
    """From the moment that the watch is made, nothing is missed."""
    watched = Watched(folder)
    (folder / "a.yaml").write_text(text("b"))
    task = asyncio.create_task(watched.watch.run())
    await watched.until("b")
    watched.watch.stop()
    await asyncio.wait_for(task, DEADLINE)


async def test_other_files_change_nothing(folder: Path) -> None:
    """Only the policy's own files count, so a busy folder costs no reload."""
    watched = Watched(folder)
    (folder / "README.md").write_text("x")
    (folder / ".a.yaml.swp").write_text("x")
    await watched.watch._compare()
    assert watched.names == []


async def test_reload_can_be_asked_for(folder: Path) -> None:
    """A reload loads whatever the files hold now."""
    watched = Watched(folder)
    await watched.watch.reload()
    assert watched.names == ["a"]
    (folder / "a.yaml").write_text("broken")
    await watched.watch.reload()
    assert watched.names == ["a"]
    assert watched.watch.problem


async def test_a_stopped_watch_returns_at_once(folder: Path) -> None:
    """Stopping before running is no different."""
    watched = Watched(folder)
    watched.watch.stop()
    await asyncio.wait_for(watched.watch.run(), DEADLINE)


def test_folders_that_are_gone_are_watched_from_above(tmp_path: Path) -> None:
    """The nearest folder that exists is watched for what is missing below it."""
    assert files.folders([tmp_path / "none" / "at" / "all.yaml"]) == {tmp_path}


def test_a_link_that_leads_nowhere_has_a_fingerprint(folder: Path) -> None:
    """A broken link is told apart from a mended one."""
    (folder / "b.yaml").symlink_to("gone")
    broken = files.fingerprint([folder])
    (folder / "gone").write_text("x")
    assert files.fingerprint([folder]) != broken


async def test_files_that_change_while_they_load_are_never_mixed(folder: Path) -> None:
    """A state that was read half before and half after a change does not serve; the whole new one does."""
    taken: list[list[str]] = []
    (folder / "b.yaml").write_text(text("b"))

    def load() -> Policy:
        loaded = policy.load([folder], KEYS)
        if not changes:
            changes.append(True)
            (folder / "a.yaml").write_text(text("a2"))
        return loaded

    changes: list[bool] = []
    watch = PolicyWatch([folder], load=load, changed=lambda new: taken.append([rule.ref.name for rule in new.rules]))
    await watch.reload()
    assert taken == []
    await watch._compare()
    assert taken == [["a2", "b"]]
