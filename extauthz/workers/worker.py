"""A worker as its supervisor sees it: a process, what it has said, and how it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from extauthz.settings import Settings
from extauthz.workers.channel import LEAVING, NO_MORE, SERVING, hand_over

ASK_SECONDS = 2.0
"""How long a worker may take to say how it is."""
RETRY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker's admin listener said."""

    status: int
    content_type: str
    body: bytes


class Worker:
    """A running worker."""

    def __init__(self, process: Process, channel: socket.socket, changed: Callable[[], None]) -> None:
        self.process = process
        self.serving = False
        """Whether it takes connections."""
        self.served = False
        """Whether it ever did."""
        self._changed = changed
        self._channel = channel
        asyncio.get_running_loop().add_reader(channel.fileno(), self._read)

    @classmethod
    async def start(cls, settings: Settings, log_level: str, *, changed: Callable[[], None]) -> Self:
        """Start one; `changed` is called when it begins to take connections, and when it takes no more."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "extauthz.workers", str(theirs.fileno()), log_level),
                stdin=PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is the supervisor's to handle
            )
        with contextlib.suppress(ConnectionError):  # it has ended; whoever waits for that will see
            await _write(process, settings.to_json().encode())
        return cls(process, ours, changed)

    def take(self, kind: str, connection: socket.socket) -> bool:
        """Hand a connection over. False where it cannot be taken now."""
        try:
            hand_over(self._channel, kind, connection)
        except OSError:
            return False
        return True

    async def ask(self, target: str) -> Answer:
        """Ask its admin listener. Raises TimeoutError and OSError where it does not answer."""
        ours, theirs = socket.socketpair()
        with theirs, ours:
            hand_over(self._channel, "admin", theirs)
            async with asyncio.timeout(ASK_SECONDS):
                reader, writer = await asyncio.open_unix_connection(sock=ours)
                try:
                    writer.write(f"GET {target} HTTP/1.0\r\n\r\n".encode())
                    return _answer(await reader.read())
                finally:
                    writer.close()

    def terminate(self) -> None:
        """Ask it to finish its checks and end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Let go of the channel: a worker that still runs ends then."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._channel.close()

    def _read(self) -> None:
        try:
            told = self._channel.recv(1)
        except BlockingIOError:
            return
        except OSError:
            told = b""
        if told == LEAVING:
            self._end_handing_over()
        elif not told:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self.serving = told == SERVING
        self.served |= self.serving
        self._changed()

    def _end_handing_over(self) -> None:
        try:
            self._channel.send(NO_MORE)
        except BlockingIOError:  # it has not read yet what was handed over
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._end_handing_over)
        except OSError:
            return


async def _write(process: Process, content: bytes) -> None:
    if process.stdin is not None:
        process.stdin.write(content)
        await process.stdin.drain()
        process.stdin.close()


def _answer(content: bytes) -> Answer:
    head, _, body = content.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    try:
        return Answer(int(first.split()[1]), headers.get("content-type", ""), body)
    except (IndexError, ValueError):
        raise OSError("no answer") from None
