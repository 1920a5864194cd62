"""An upstream that costs next to nothing: `python -m bench.upstream` answers every request with 200 and no body.

It prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
END = b"\r\n\r\n"


class Upstream(asyncio.Protocol):
    """Counts the ends of heads: requests here have no bodies."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        self._transport.write(ANSWER * data.count(END))
        self._rest = data[data.rfind(END) + len(END) :] if END in data else data


async def serve() -> None:
    """Serve until the standard input ends."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve())
