"""Writing records: never in the way of a decision, whatever the output does."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from extauthz.decision import Decision, Outcome, Reason
from extauthz.observe.audit import form, writer
from extauthz.observe.audit.mask import Mask
from extauthz.observe.audit.record import AuditRecord
from extauthz.observe.audit.writer import AuditWriter, Output
from tests.cases import request

DENY = Decision(Outcome.DENY, 403, Reason.FORBIDDEN, "")


def record(target: str = "/x") -> AuditRecord:
    return form.build(request("GET", target), DENY, seconds=0.0, values={}, mask=Mask())


def targets(file: Path) -> list[str]:
    return [json.loads(line)["target"] for line in file.read_text().splitlines() if line]


def until(condition: Callable[[], bool]) -> None:
    """Wait for the writer's thread."""
    done = threading.Event()
    for _ in range(3000):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError("the writer did not get there")


@contextmanager
def piped() -> Iterator[tuple[AuditWriter, BinaryIO]]:
    """A writer into a pipe, and the pipe's other end."""
    reading, writing = os.pipe()
    log = AuditWriter(None, queue_records=500)
    log._output._descriptor = writing
    with os.fdopen(reading, "rb", buffering=0) as reader:
        yield log, reader
        drain = threading.Thread(target=lambda: None if reader.closed else reader.read())
        drain.start()
        log.stop()
        until(lambda: not log._thread.is_alive())
        os.close(writing)
        drain.join()


def test_records_are_lines(tmp_path: Path) -> None:
    """In order, all of them, before the end."""
    file = tmp_path / "audit.jsonl"
    log = AuditWriter(file, queue_records=2000)
    log.start()
    for number in range(1000):
        log.put(record(f"/{number}"))
    log.stop()
    assert targets(file) == [f"/{number}" for number in range(1000)]
    assert (log.counts.written, log.counts.dropped, log.counts.lost, log.waiting) == (1000, 0, 0, 0)


def test_a_file_is_appended_to_and_may_be_renamed(tmp_path: Path) -> None:
    """What was there stays; after a rename a new file is begun."""
    file, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    for name in ("/a", "/b"):
        output = Output(file)
        output.write(form.encode(record(name)))
        output.close()
    output = Output(file)
    output.write(form.encode(record("/c")))
    file.rename(old)
    output.write(form.encode(record("/d")))
    output.close()
    assert (targets(old), targets(file)) == (["/a", "/b", "/c"], ["/d"])


def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    """Nobody waits for room."""
    log = AuditWriter(tmp_path / "audit.jsonl", queue_records=2)
    room = []
    for _ in range(4):
        room.append(log.has_room())
        if room[-1]:
            log.put(record())
    assert (room, log.counts.dropped, log.waiting) == ([True, True, False, False], 2, 2)


def test_an_output_that_takes_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody reads fills the queue; then records are dropped, and the end comes all the same."""
    monkeypatch.setattr(writer, "STOP_SECONDS", 0.1)
    with piped() as (log, _):
        log.start()
        while log.has_room():
            log.put(record("/" + "a" * 4000))
        assert log.counts.dropped == 1
        log.stop()
        assert log._thread.is_alive()


def test_a_broken_pipe_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """What is lost is counted, the problem is named once in the log, and the thread goes on."""
    with piped() as (log, reader):
        log.start()
        reader.close()
        log.put(record())
        until(lambda: log.counts.lost == 1)
        log.put(record())
        until(lambda: log.counts.lost == 2)
        assert "Broken pipe" in log.problem
        log.stop()
    assert caplog.text.count("cannot be written") == 1


def test_a_full_disk_is_told_until_there_is_room_again(tmp_path: Path) -> None:
    """Half a line is ended before the next one, so that every further record can be read."""
    file = tmp_path / "audit.jsonl"
    output = Output(file)
    output.write(form.encode(record("/before")))
    line = form.encode(record("/torn"))
    with largest_file(file.stat().st_size + len(line) // 2), pytest.raises(OSError, match="File too large"):
        output.write(line)
    output.write(form.encode(record("/after")))
    output.close()
    first, torn, last = file.read_text().splitlines()
    assert (json.loads(first)["target"], json.loads(last)["target"]) == ("/before", "/after")
    assert line.startswith(torn.encode())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_cannot_be_opened_is_told_until_it_can(tmp_path: Path) -> None:
    """The problem is gone once a record was written."""
    folder = tmp_path / "later"
    log = AuditWriter(folder / "audit.jsonl", queue_records=10)
    log.start()
    log.put(record())
    until(lambda: bool(log.problem))
    folder.mkdir()
    log.put(record("/x"))
    until(lambda: not log.problem)
    log.stop()
    assert (log.counts.lost, log.counts.written) == (1, 1)
