"""The fuzz targets by name. Each is made anew, with a folder to write in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.fuzz import edges, files, records, requests, wires

Target = Callable[[bytes], None]

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target: inputs from which others are made, and every one that ever failed."""

TARGETS: dict[str, Callable[[Path], Target]] = {
    "check": requests.CheckRequest,
    "canon": requests.Canon,
    "token": requests.Token,
    "artifact-key": lambda _: requests.artifact_key,
    "policy": files.policy_file,
    "settings": files.settings_file,
    "manifests": files.manifests,
    "record": records.Record,
    "http-check": edges.HttpChecks,
    "grpc-check": edges.GrpcCalls,
    "http1": lambda _: wires.http1,
    "http2": lambda _: wires.http2,
}


def corpus(name: str) -> list[bytes]:
    """Return the kept inputs of a target."""
    return [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
