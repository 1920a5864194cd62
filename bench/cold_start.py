"""From `extauthz serve` to the first 200 of `/readyz`, without a cluster: keys from a file, rights from manifests."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from bench.openloop import median
from bench.row import Row
from bench.subjects import ROOT, SERVER_CORE, Running, prepare

SERVERS = ("native", "grpcio")


def run(*, rounds: int) -> list[Row]:
    """Return a row for the native servers, and one for the others; memory is that of the idle service."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        return [_row(server, [_start(folder, server) for _ in range(rounds)]) for server in SERVERS]


def _row(server: str, found: list[tuple[float, float]]) -> Row:
    seconds = median([each for each, _ in found])
    resident = max(each for _, each in found)
    return Row("cold start", f"extauthz, {server}", rss_mb=resident, more={"seconds": round(seconds, 3)})


def _start(folder: Path, server: str) -> tuple[float, float]:
    """Start the service; return the seconds until it is ready, and its resident memory then."""
    content = yaml.safe_load((folder / "settings.yaml").read_text())
    native = server == "native"
    content["listeners"] = {
        "grpc": {"address": "127.0.0.1:0", "server": "native" if native else "grpcio"},
        "http": {"address": "127.0.0.1:0", "server": "native" if native else "aiohttp"},
        "admin": {"address": "127.0.0.1:0"},
    }
    file = folder / "cold.yaml"
    file.write_text(yaml.safe_dump(content))
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "extauthz", "serve", "--config", str(file)]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = _admin_port(process)
            while not _ready(port):
                time.sleep(0.005)
            return time.perf_counter() - began, Running(process.pid, 0).resident_mb()
        finally:
            process.kill()  # to drain takes seconds that nobody measures


def _admin_port(process: subprocess.Popen[str]) -> int:
    for line in process.stderr or ():
        if found := re.search(r"serving:.* admin (\d+)", line):
            return int(found[1])
    raise SystemExit("the service ended before it served")


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError:
        return False
