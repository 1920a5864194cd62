"""h2spec, the conformance tests of HTTP/2: found on PATH, or built by the Go that is there."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from xml.etree import ElementTree

PACKAGE = "github.com/summerwind/h2spec/cmd/h2spec"
VERSION = "v2.2.1+incompatible"
MISSING = f"h2spec is missing: put it on PATH, or Go, which builds it by `go install {PACKAGE}@{VERSION}`"
BUILD_SECONDS, RUN_SECONDS = 240, 60


async def find() -> Path | None:
    """Return the program, built if need be; None where there is neither it nor Go, or no network to build it."""
    if found := shutil.which("h2spec"):
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "extauthz" / f"h2spec-{VERSION}"
    if not (cache / "h2spec").exists() and (go := shutil.which("go")):
        await _run(go, "install", f"{PACKAGE}@{VERSION}", seconds=BUILD_SECONDS, GOBIN=str(cache))
    return cache / "h2spec" if (cache / "h2spec").exists() else None


async def failures(program: Path, port: int, *sections: str) -> tuple[int, set[str]]:
    """Run all tests, or those of some sections; return how many there were, and which failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        await _run(str(program), "-p", str(port), "-o", "2", "-j", str(report), *sections, seconds=RUN_SECONDS)
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = {f"{case.get('package')}: {case.get('classname')}" for case in cases if case.find("failure") is not None}
    failed |= {f"{case.get('package')}: {case.get('classname')}" for case in cases if case.find("error") is not None}
    return len(cases), failed


async def _run(*command: str, seconds: float, **environment: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
