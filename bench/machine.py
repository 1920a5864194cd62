"""What else the machine did during a run: figures of a busy machine are those of other work, too."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path

STAT = Path("/proc/stat")
IDLE = (3, 4)
"""The fields of a line in /proc/stat that are no work: idle, and waiting for input or output."""
FIELDS = 8
"""What follows is in other fields already."""


class Machine:
    """Watches from its making on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy = busy_seconds()
        self._own = _own_seconds()

    def about(self) -> dict[str, object]:
        """Return the machine, and how many of its cores others have used on average; None where it does not tell.

        What this process and its ended children have used is not others' work. Interrupts count as theirs.
        """
        now, busy = time.monotonic(), busy_seconds()
        known = busy is not None and self._busy is not None
        others = ((busy or 0) - (self._busy or 0) - (_own_seconds() - self._own)) / (now - self._began)
        return {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "system": platform.system(),
            "cores": os.cpu_count(),
            "othersCores": round(max(0.0, others), 2) if known else None,
        }


def busy_seconds() -> float | None:
    """Return the seconds that all cores have worked since they started, or None where the system does not tell."""
    try:
        words = STAT.read_text().splitlines()[0].split()[1 : 1 + FIELDS]
    except OSError:
        return None
    return sum(int(word) for place, word in enumerate(words) if place not in IDLE) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
