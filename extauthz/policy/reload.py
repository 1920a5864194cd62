"""Hot reload: a changed policy serves as soon as it is proven good; a broken one never does.

Folders are watched, not files, since editors and ConfigMap mounts replace files instead of
writing to them. Where a change goes unseen, as when a watched folder was itself replaced,
a comparison once a second finds it. Loading happens off the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import watchfiles

from extauthz.errors import ConfigurationError
from extauthz.policy import files
from extauthz.policy.loader import Policy

COMPARE_MS = 1000
STEP_MS = 100
"""How often the watching thread wakes: at 20 ms that cost more than the checks of a quiet cluster."""

_logger = logging.getLogger(__name__)


class PolicyWatch:
    """Keeps a policy in step with its files, from the moment it is made.

    `problem` holds what is wrong with the newest files, or is empty when they serve.
    """

    def __init__(self, paths: Sequence[Path], *, load: Callable[[], Policy], changed: Callable[[Policy], None]) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._changed = changed
        self._stop = asyncio.Event()
        self._seen = files.fingerprint(self._paths)
        self.problem = ""
        self.reloaded = 0
        """How often a changed policy was taken since the start."""
        self.refused = 0
        """How often one was not."""

    async def run(self) -> None:
        """Watch until `stop`."""
        while not self._stop.is_set():
            # Where nothing can be watched, each new run of this function still finds the changes.
            await self._compare()
            try:
                await self._watch(await asyncio.to_thread(files.folders, self._paths))
            except FileNotFoundError:
                # A folder went between listing and watching, as in the swap of a ConfigMap.
                await asyncio.sleep(COMPARE_MS / 1000)

    async def _watch(self, folders: set[Path]) -> None:
        """Watch until the folders to watch are others, or until `stop`."""
        changes = watchfiles.awatch(
            *folders,
            watch_filter=None,
            stop_event=self._stop,
            debounce=200,
            step=STEP_MS,
            rust_timeout=COMPARE_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        async with contextlib.aclosing(changes):
            async for _ in changes:
                await self._compare()
                if folders != await asyncio.to_thread(files.folders, self._paths):
                    return

    async def reload(self) -> None:
        """Load the files anew; keep the last good policy when they cannot be used."""
        self._seen = await asyncio.to_thread(files.fingerprint, self._paths)
        found = await asyncio.to_thread(self._loaded)
        if self._seen != await asyncio.to_thread(files.fingerprint, self._paths):
            # Some files may have been read before the change and some after it; `_compare` comes again.
            return
        if isinstance(found, ConfigurationError):
            self.refused += 1
            self.problem = f"policy not reloaded, the last good one serves: {found}"
            _logger.error("%s", self.problem)
            return
        self.problem = ""
        self.reloaded += 1
        self._changed(found)
        _logger.info("policy reloaded: %d rules", len(found.rules))

    def stop(self) -> None:
        """Make `run` return."""
        self._stop.set()

    def _loaded(self) -> Policy | ConfigurationError:
        try:
            return self._load()
        except ConfigurationError as error:
            return error

    async def _compare(self) -> None:
        if self._seen != await asyncio.to_thread(files.fingerprint, self._paths):
            await self.reload()
