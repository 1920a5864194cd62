"""One worker: `python -m extauthz.workers CHANNEL LOG_LEVEL`, with the settings on standard input.

Only a supervisor starts it. It serves what it is handed until SIGTERM, or until the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys

import uvloop

from extauthz.errors import ConfigurationError
from extauthz.service import Service
from extauthz.settings import Settings
from extauthz.workers.handed import Handed


async def serve(channel: socket.socket, settings: Settings) -> None:
    """Serve until told to stop. Raises ConfigurationError."""
    handed, stop = Handed(channel), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    service = Service(settings, listening=handed.listening)
    handed.secure(service.certificates)
    try:
        await service.start()
        handed.serving()
        ends = [asyncio.create_task(event.wait()) for event in (stop, handed.orphaned)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
    finally:
        await service.stop()


def main() -> int:
    """Return the exit code."""
    os.set_inheritable(number := int(sys.argv[1]), False)
    log_format = f"%(asctime)s %(levelname)s worker[{os.getpid()}] %(name)s: %(message)s"
    logging.basicConfig(level=sys.argv[2].upper(), format=log_format)
    with socket.socket(fileno=number) as channel:
        try:
            uvloop.run(serve(channel, Settings.from_json(sys.stdin.read())))
        except ConfigurationError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
