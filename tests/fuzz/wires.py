"""Fuzz targets that read a connection: how its bytes are cut into pieces must change nothing."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from extauthz.edge.native.h2.connection import Connection
from extauthz.edge.native.h2.limits import Limits
from extauthz.edge.native.requests import BadRequest, Http1Limits, Incoming, RequestReader
from extauthz.edge.native.server import Connections
from tests.unit.edge.native.peer import PREFACE, Application

MAX_BODY_BYTES = 1000
WRITTEN_AT_MOST = 1024 * 1024
"""More than any input of a few kilobytes may make a connection write."""


def http1(data: bytes) -> None:
    """The requests that a connection carries are the same in one piece, in two, and byte by byte."""
    whole = _requests([data])
    assert whole == _requests([data[: len(data) // 2], data[len(data) // 2 :]])
    assert whole == _requests([data[at : at + 1] for at in range(len(data))])


def _requests(pieces: list[bytes]) -> tuple[list[Incoming | None], bool]:
    reader = RequestReader(Http1Limits(), MAX_BODY_BYTES)
    try:
        for piece in pieces:
            if piece and not reader.ended:
                reader.feed(piece)
    except BadRequest:
        return list(reader.ready), reader.ended  # whatever follows the last request has no meaning
    return list(reader.ready), True


class Wire(asyncio.Transport):
    """A transport that counts what is written."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        super().__init__({"socket": self._socket})
        self.written = 0

    def write(self, data: Any) -> None:
        self.written += len(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take any."""

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._socket.close()

    abort = close

    def pause_reading(self) -> None:
        """Nothing is read from here."""

    resume_reading = pause_reading


def http2(data: bytes) -> None:
    """Frames behind a preface: the connection ends or goes on, and answers no more than it was asked."""
    asyncio.run(_feed(data))


async def _feed(data: bytes) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    connections, wire = Connections(), Wire()
    connection = Connection(Application(), Limits(), connections)
    connection.connection_made(wire)
    for piece in (PREFACE, data[: len(data) // 2], data[len(data) // 2 :]):
        if not connection.closing:
            connection.data_received(piece)
    await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    wire.close()
    assert not faults, faults
    assert wire.written <= WRITTEN_AT_MOST
