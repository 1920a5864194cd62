"""What a supervisor and a worker tell each other: single bytes over a pair of sockets, some with a connection.

The supervisor hands over connections and says when no more will come; the worker says that it
serves, and that it wants no more. When one of the two is gone, the other reads the end.
"""

from __future__ import annotations

import socket

SERVING = b"+"
"""The worker takes connections."""
LEAVING = b"-"
"""The worker wants no more of them. It may ask as often as it likes."""
NO_MORE = b"."
"""The supervisor has handed over the last one."""
KINDS = {"grpc": b"g", "http": b"h", "admin": b"a"}
"""The listener that a connection came from."""


def hand_over(channel: socket.socket, kind: str, connection: socket.socket) -> None:
    """Give a connection away, and close our side of it. Raises OSError where it cannot be taken now."""
    socket.send_fds(channel, [KINDS[kind]], [connection.fileno()])
    connection.close()


def receive(channel: socket.socket) -> tuple[bytes, socket.socket | None]:
    """Return the next byte, none at the end, and the connection that came with it. Raises OSError."""
    told, files, _, _ = socket.recv_fds(channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
    return told, socket.socket(fileno=files[0]) if files else None
