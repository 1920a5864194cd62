"""A connection without a network: what is fed to an edge, and what it writes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast


class Source:
    """Stands in for an address that is listened on, and makes connections itself."""

    port = 0
    max_age: float | None = None

    async def start(self, serve: Callable[[], asyncio.BaseProtocol]) -> None:
        """Remember how a connection is served."""
        self._serve = serve

    async def stop(self) -> None:
        """There is nothing to stop."""

    def connect(self) -> Wire:
        """Open a connection."""
        return Wire(cast("asyncio.Protocol", self._serve()))


class Wire(asyncio.Transport):
    """A connection that takes everything at once."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"socket": socket.socket()})  # whose options are set
        self.writes = 0
        self.last = b""
        """What was written last."""
        self._protocol = protocol
        protocol.connection_made(self)

    def feed(self, data: bytes) -> None:
        """Let the edge read."""
        self._protocol.data_received(data)

    def write(self, data: Any) -> None:
        self.writes += 1
        self.last = data

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        cast("socket.socket", self.get_extra_info("socket")).close()
        self._protocol.connection_lost(None)

    abort = close
