"""Writing audit records from a thread of its own, behind a bounded queue.

Promises: whoever hands over a record never waits and never sees an error. What finds no
room is dropped and counted, what cannot be written is lost and counted, and `problem` says
why until writing succeeds again. No line is torn: after half of one a new line is begun.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from extauthz.observe.audit import form
from extauthz.observe.audit.record import AuditRecord

STOP_SECONDS = 2.0
"""How long the end waits for an output that takes nothing."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class WriterCounts:
    """What has happened since the start. Each record is written, dropped or lost."""

    written: int = 0
    dropped: int = 0
    """Those that found the queue full."""
    lost: int = 0
    """Those that the output did not take."""


class Output:
    """Standard output, or a file that may be renamed at any time."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._descriptor = -1 if file else sys.__stdout__.fileno() if sys.__stdout__ else -1
        self._torn = False

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self._file or "standard output")

    def write(self, content: bytes) -> None:
        """Write a whole line. Raises OSError."""
        self._open()
        rest = memoryview(b"\n" + content if self._torn else content)
        while rest:
            count = os.write(self._descriptor, rest)
            self._torn = True
            rest = rest[count:]
        self._torn = False

    def close(self) -> None:
        """Close a file; standard output is not ours to close."""
        if self._file and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        if self._file is None:
            return
        if self._descriptor >= 0 and not self._is_current(self._file):
            self.close()
            self._torn = False
        if self._descriptor < 0:
            self._descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _is_current(self, file: Path) -> bool:
        try:
            return os.path.samestat(file.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False


class AuditWriter:
    """Takes records from `start` to `stop`."""

    def __init__(self, file: Path | None, *, queue_records: int) -> None:
        self.counts = WriterCounts()
        self.problem = ""
        self._output = Output(file)
        self._queue: queue.Queue[AuditRecord | None] = queue.Queue(queue_records)
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    @property
    def waiting(self) -> int:
        """How many records wait."""
        return self._queue.qsize()

    def has_room(self) -> bool:
        """Whether a record would be taken; where not, it counts as dropped."""
        if self._queue.full():
            self.counts.dropped += 1
            return False
        return True

    def put(self, record: AuditRecord) -> None:
        """Hand over a record for which there is room."""
        self._queue.put_nowait(record)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, within STOP_SECONDS, and end. May block that long."""
        if not self._thread.is_alive():
            return
        try:
            self._queue.put(None, timeout=STOP_SECONDS)
        except queue.Full:
            return
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while (record := self._queue.get()) is not None:
            self._write(record)
        self._output.close()

    def _write(self, record: AuditRecord) -> None:
        """Write one by itself: a pipe keeps a line of up to 4 KiB whole where several processes write to it."""
        try:
            self._output.write(form.encode(record))
        except Exception as error:  # noqa: BLE001  # whatever it is, the thread must go on
            self.counts.lost += 1
            self._say(f"the audit log cannot be written to {self._output.name}: {error}")
        else:
            self.counts.written += 1
            self._say("")

    def _say(self, problem: str) -> None:
        if problem and not self.problem:
            _logger.error("%s", problem)
        self.problem = problem
