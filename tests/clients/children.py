"""Client processes that tests start: bounded, and never left behind."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader
from asyncio.subprocess import Process
from contextlib import suppress

STOP_SECONDS = 10.0


async def stop(process: Process) -> None:
    """End a process: ask first, then kill. It is gone afterwards, even if this is cancelled."""
    try:
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        # A browser's own children may hold the other end of a pipe a moment longer.
        process._transport.close()  # type: ignore[attr-defined]  # there is no public way


async def drain(output: StreamReader) -> None:
    """Read what a process says until it ends, so that it never waits for a reader."""
    while await output.read(65536):
        pass
