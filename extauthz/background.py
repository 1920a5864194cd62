"""Work beside the checks, which goes on whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

RESTART_SECONDS = 1.0

_logger = logging.getLogger(__name__)


async def keep_running(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run background work and start it again when it fails; it ends when it returns."""
    while True:
        try:
            return await run()
        except Exception:
            _logger.exception("%s failed; it starts again in %s s", name, RESTART_SECONDS)
            await asyncio.sleep(RESTART_SECONDS)
