"""Credential plugins that hang, and are gone when their test is over."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

SECONDS = 10.0


@asynccontextmanager
async def hanging(folder: Path) -> AsyncIterator[str]:
    """Yield a command that does not end by itself; whoever gave it up has its remains cleared away by the loop."""
    command, told = folder / "hanging-plugin", folder / "hanging-pid"
    command.write_text(f"#!/bin/sh\necho $$ >{told}.part && mv {told}.part {told}\nexec sleep 600\n")
    command.chmod(0o700)
    try:
        yield str(command)
    finally:
        async with asyncio.timeout(SECONDS):
            while not told.exists():  # noqa: ASYNC110  # an outside process has no event
                await asyncio.sleep(0.01)
            number = int(told.read_text())
            os.kill(number, signal.SIGKILL)
            while Path(f"/proc/{number}").exists():  # noqa: ASYNC110, ASYNC240  # likewise
                await asyncio.sleep(0.01)
            # The watcher tells the loop, which closes the pipes: a few turns.
            for _ in range(10):
                await asyncio.sleep(0.01)
