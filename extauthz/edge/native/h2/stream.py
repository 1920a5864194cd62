"""One stream: a request that arrives and an answer that leaves."""

from __future__ import annotations

import asyncio

from extauthz.edge.native.h2.message import Route


class Stream:
    """A request under way. It is over once it has `arrived` and its answer has `left`."""

    __slots__ = (
        *("arrived", "body", "discarding", "ended", "expected", "id", "left", "opened", "received", "route"),
        *("task", "trailers", "unsent", "window", "wire_id"),
    )

    def __init__(self, stream_id: int, route: Route, expected: int | None, opened: float) -> None:
        self.id = stream_id
        self.wire_id = stream_id.to_bytes(4, "big")
        self.route = route
        self.expected = expected
        """The bytes that its content-length promises and that have not come yet."""
        self.opened = opened
        """When it began, in monotonic seconds."""
        self.body: bytes | bytearray = b""
        self.received = 0
        """Bytes since its last WINDOW_UPDATE."""
        self.arrived = False
        self.discarding = False
        """Whether it is answered already, so that the rest of its body is of no use."""
        self.task: asyncio.Task[None] | None = None
        self.window = 0
        """The peer's window for the answer, less its SETTINGS_INITIAL_WINDOW_SIZE."""
        self.unsent = b""
        self.trailers = b""
        self.ended = False
        """Whether nothing will be added to what is unsent."""
        self.left = False

    def cancel(self) -> None:
        """Stop working on the answer."""
        if self.task is not None:
            # Not before it has begun: what it was to await would never be awaited.
            self.task.get_loop().call_soon(self.task.cancel)
