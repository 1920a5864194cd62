"""Hot reload: a changed policy serves as soon as it is proven good; a broken one never does.

Folders are watched, not files, since a ConfigMap mount replaces a symbolic link beside the
files. Loading happens off the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import watchfiles

from extauthz.errors import ConfigurationError
from extauthz.policy.loader import Policy

_logger = logging.getLogger(__name__)


class PolicyWatch:
    """Keeps a policy in step with its files.

    `problem` holds what is wrong with the newest files, or is empty when they serve.
    """

    def __init__(self, paths: Sequence[Path], *, load: Callable[[], Policy], changed: Callable[[Policy], None]) -> None:
        self._folders = {path if path.is_dir() else path.parent for path in paths}
        self._load = load
        self._changed = changed
        self._stop = asyncio.Event()
        self.problem = ""

    async def run(self) -> None:
        """Watch until `stop`."""
        async for _ in watchfiles.awatch(
            *self._folders, watch_filter=None, stop_event=self._stop, debounce=200, step=20, recursive=True
        ):
            await self.reload()

    async def reload(self) -> None:
        """Load the files anew; keep the last good policy when they cannot be used."""
        try:
            policy = await asyncio.to_thread(self._load)
        except ConfigurationError as error:
            self.problem = f"policy not reloaded, the last good one serves: {error}"
            _logger.error("%s", self.problem)
            return
        self.problem = ""
        self._changed(policy)
        _logger.info("policy reloaded: %d rules", len(policy.rules))

    def stop(self) -> None:
        """Make `run` return."""
        self._stop.set()
