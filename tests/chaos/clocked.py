"""`python -m tests.chaos.clocked OFFSETS ARGUMENT…`: the command line of extauthz under a wall clock that can be moved.

The file OFFSETS says by how many seconds `time.time` is off; it is read again at SIGUSR1. The
monotonic clock is left alone, as it is where an administrator or NTP sets a machine's clock.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

_real = time.time
_offset = 0.0


def main(offsets: Path) -> None:
    """Move the clock, then run the command. It must be moved first: others bind `time.time` when they are imported."""

    def read(*_: object) -> None:
        global _offset
        _offset = float(offsets.read_text())

    read()
    time.time = lambda: _real() + _offset
    signal.signal(signal.SIGUSR1, read)
    from extauthz.cli import main as extauthz

    extauthz()


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    main(file)
