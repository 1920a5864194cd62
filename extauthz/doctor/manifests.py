"""Kubernetes objects as doctor looks at them, from files, folders and standard input, with their places."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extauthz import document
from extauthz.doctor.fields import mapping, text_map
from extauthz.errors import ConfigurationError, Problem

STDIN = Path("-")
_SUFFIXES = (".json", ".yaml", ".yml")


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """One object. `file` is empty where it came from a cluster; lines count from 1."""

    data: Mapping[str, Any]
    file: str = ""
    line: int = 0

    @property
    def kind(self) -> str:
        """Its kind, without the group."""
        return str(self.data["kind"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        """Its namespace; empty for what belongs to the cluster."""
        return str(self.metadata.get("namespace") or "")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Its metadata."""
        return mapping(self.data, "metadata")

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its spec."""
        return mapping(self.data, "spec")

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return text_map(self.metadata, "labels")

    @property
    def place(self) -> str:
        """What it is, and where it stands."""
        return f"{self} ({self.file}:{self.line})" if self.file else str(self)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def read(paths: Iterable[Path]) -> list[Manifest]:
    """Return the objects of files and folders; `-` is standard input. Raises ConfigurationError."""
    found: list[Manifest] = []
    for file in (file for path in paths for file in _files(path)):
        content = sys.stdin.buffer.read() if file == STDIN else None
        documents = document.read(file) if content is None else document.parse(content, Path("standard input"))
        found += [item for each in documents for item in _objects(each)]
    return found


def of_list(kind: str, content: Mapping[str, Any]) -> list[Manifest]:
    """Return the items of a list that a cluster answered, which lack their kind."""
    return [Manifest({"kind": kind, **item}) for item in content.get("items", ())]


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    if not found:
        raise ConfigurationError(
            Problem("no manifests in this folder", path, hint="name *.yaml, *.yml or *.json files")
        )
    yield from found


def _objects(found: document.Document) -> Iterator[Manifest]:
    """Yield the objects of a document, those of a list included; other YAML is skipped."""
    data = found.data if isinstance(found.data, dict) else {}
    if str(data.get("kind", "")).endswith("List") and isinstance(data.get("items"), list):
        kind = str(data["kind"]).removesuffix("List")
        for index, item in enumerate(data["items"]):
            if isinstance(item, dict):
                yield Manifest({"kind": kind, **item}, str(found.file), found.position(("items", index))[0])
    elif "kind" in data and isinstance(data.get("metadata"), dict):
        yield Manifest(data, str(found.file), found.position(())[0])
