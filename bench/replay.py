"""How fast `extauthz diff` reads a log, and how much memory it takes.

    python bench/replay.py [--lines 1000000] [--distinct 20000]

The log is made here: `distinct` requests by 200 users on the routes of the shipped policy,
drawn in the skewed way of real traffic, and one line in a hundred with an id of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

REPOSITORY = Path(__file__).parents[1]
POLICIES = REPOSITORY / "policies" / "kubeflow"


def main() -> None:
    """Make a log, compare the shipped policy with a copy in which viewers may open notebooks, and print figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--distinct", type=int, default=20_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log, new = Path(folder, "audit.jsonl"), Path(folder, "new")
        new.mkdir()
        for file in POLICIES.glob("*.yaml"):
            changed = file.read_text().replace("verb: update", "verb: get")
            Path(new, file.name).write_text(changed if file.name == "dataplanes.yaml" else file.read_text())
        write(log, wanted.lines, wanted.distinct)
        size = log.stat().st_size
        began = time.perf_counter()
        command = [sys.executable, "-m", "extauthz", "diff", str(POLICIES), str(new), "--log", str(log), "-o", "json"]
        manifests = ["--manifests", str(REPOSITORY / "extauthz" / "demo" / "files" / "rbac")]
        done = subprocess.run([*command, *manifests], check=True, capture_output=True)
        took = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    found = json.loads(done.stdout)
    print(f"{found['decisions']} lines ({size / 1e6:.0f} MB), {found['distinct']} distinct: {found['counts']}")
    print(f"{took:.1f} s, {cpu:.1f} s of CPU: {found['decisions'] / cpu:.0f} lines per second of CPU")
    print(f"{used.ru_maxrss / 1024:.0f} MB at most")


def write(log: Path, lines: int, distinct: int) -> None:
    """Write a log."""
    chance = random.Random(1)
    kinds = [record(chance) for _ in range(distinct)]
    with log.open("w") as stream:
        for number in range(lines):
            made: dict[str, Any] = dict(kinds[int(distinct * chance.random() ** 3)])
            made["auditID"] = str(UUID(int=chance.getrandbits(128)))
            made["requestID"] = made["auditID"]
            made["timestamp"] = f"2026-11-25T00:00:{number % 60:02}.{number % 1_000_000:06}Z"
            if number % 100 == 0:
                made["target"] += f"&page_token={number}" if "?" in made["target"] else f"/{number}"
            stream.write(json.dumps(made, separators=(",", ":")) + "\n")


def record(chance: random.Random) -> dict[str, object]:
    """Return what one request looks like in the log."""
    namespace = f"team-{chance.choice('abc')}"
    user = chance.choice(["alice", "bob", "carol", "erin", *(f"user-{number}" for number in range(196))])
    target = chance.choice(
        [
            f"/pipeline/apis/v2beta1/runs?namespace={namespace}&page_size={chance.randrange(1000)}",
            f"/notebook/{namespace}/nb-{chance.randrange(500)}/api/contents",
            f"/jupyter/api/namespaces/{namespace}/notebooks",
        ]
    )
    return {
        "kind": "Decision",
        "apiVersion": "audit.extauthz.dev/v1",
        "method": "GET",
        "host": "kubeflow.example.com",
        "target": target,
        "user": {"username": f"{user}@example.com", "groups": ["system:authenticated"]},
        "authenticator": "jwt",
        "decision": "allow",
        "status": 200,
        "reason": "allowed",
        "message": "Every right that the rule asks for is granted.",
        "rule": {"name": "any", "file": "policies/kubeflow/pipelines-v2beta1.yaml", "line": 117},
        "latencySeconds": 0.000041,
    }


if __name__ == "__main__":
    main()
