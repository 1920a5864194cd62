"""One target under atheris: `python -m tests.fuzz.guided TARGET SECONDS`. Does not return; exits 0 where it held."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

# What is not imported in here is not instrumented, so nothing of ours stands above.
with atheris.instrument_imports(include=["extauthz"], enable_loader_override=False):
    from tests.fuzz.targets import CORPUS, TARGETS

MAX_INPUT_BYTES = 8192
HANG_SECONDS = 20


def main(name: str, seconds: str) -> None:
    """Fuzz a target, from its corpus; an input that fails goes there."""
    options = (
        *("fuzz", tempfile.mkdtemp(prefix="fuzz-"), str(CORPUS / name)),
        *(f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}", f"-timeout={HANG_SECONDS}"),
        *("-print_final_stats=1", f"-artifact_prefix={CORPUS / name}/failed-"),
    )
    atheris.Setup(list(options), TARGETS[name](Path(tempfile.mkdtemp(prefix="fuzz-"))))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
