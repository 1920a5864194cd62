"""Where policies lie: the files of a path, and the folders to watch for changes of them.

A folder is searched as kubelet mounts a ConfigMap: names that start with a dot are left
out, symbolic links are followed, and what cannot be read is an error, never just absent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from extauthz.errors import ConfigurationError, Problem

_SUFFIXES = (".yaml", ".yml")

Fingerprint = frozenset[tuple[str, int, int, int]]


def find(paths: Iterable[Path]) -> list[Path]:
    """Return the files named and the YAML files below the folders named, in order. Raises ConfigurationError."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = [file for folder, names in _walk(path) for name in names if (file := folder / name)]
            if not below:
                raise ConfigurationError(
                    Problem("no YAML file in this folder", path, hint="files end in .yaml or .yml")
                )
            found += sorted(below)
        elif path.exists():
            found.append(path)
        else:
            raise ConfigurationError(Problem("no such file or folder", path))
    return found


def folders(paths: Iterable[Path]) -> set[Path]:
    """Return the folders in which a change can change the policy, as far as they can be watched."""
    found: set[Path] = set()
    for path in paths:
        found.add(path.parent)
        files = [path]
        if path.is_dir():
            for folder, names in _walk(path, ignore_errors=True):
                found.add(folder)
                files += [folder / name for name in names]
        found.update(file.resolve().parent for file in files)
    return {folder for folder in map(_existing, found) if os.access(folder, os.R_OK)}


def fingerprint(paths: Iterable[Path]) -> Fingerprint:
    """Return what differs after any change of the files: names, inodes, times and sizes."""
    try:
        return frozenset(_mark(file) for file in find(paths))
    except ConfigurationError as error:
        return frozenset({(str(error), 0, 0, 0)})


def _walk(top: Path, *, ignore_errors: bool = False) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder once with the names of its YAML files, links that lead nowhere included."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(top, onerror=None if ignore_errors else _refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(folder), [name for name in names if name.endswith(_SUFFIXES) and not name.startswith(".")]


def _refuse(error: OSError) -> None:
    raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", Path(error.filename)))


def _existing(folder: Path) -> Path:
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _mark(file: Path) -> tuple[str, int, int, int]:
    try:
        status = file.stat()
    except OSError:
        return (str(file), 0, 0, 0)
    return (str(file), status.st_ino, status.st_mtime_ns, status.st_size)
