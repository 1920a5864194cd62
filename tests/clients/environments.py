"""Where the clients' own virtual environments are: beside `.venv`, made by `make clients`."""

from __future__ import annotations

from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def python(client: str) -> Path:
    """Return the interpreter of a client's environment; the test is skipped where there is none."""
    folder = _ROOT / f".venv-{client}"
    if not (folder / ".ready").exists():
        pytest.skip(f"{folder.name} is missing: run `make clients`")
    return folder / "bin" / "python"
