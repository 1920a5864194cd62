"""RBAC manifests from files and folders, as `kubectl apply` would take them.

Multi-document YAML, JSON, `List` kinds and `kubectl get` dumps are read; kinds other than
the four of RBAC, and Namespaces where somebody wants them, are skipped. A file that cannot
be read for certain is an error. An object that reads well but that kube-apiserver would
refuse grants nothing, since it would exist in no cluster; it is named in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from extauthz.access.rbac import documents, fields
from extauthz.access.rbac.fields import Object, Unacceptable, Undecodable
from extauthz.access.rbac.objects import GROUP, KINDS, Binding, Key, Role, decode
from extauthz.access.rbac.store import RbacStore
from extauthz.errors import ConfigurationError, Problem

_log = logging.getLogger(__name__)

_IN_GROUP = f"{GROUP}/"
_LISTS = {f"{kind}List": kind for kind in KINDS}
_NAMESPACE = ("Namespace", "v1")


def load(paths: Sequence[Path], namespaces: Callable[[Object], None] = lambda data: None) -> RbacStore:
    """Read manifest files and folders (recursively, without hidden ones) into a store.

    `namespaces` is told every Namespace. The same object twice is an error unless both say the
    same. Raises ConfigurationError with every problem found.
    """
    collector = _Collector(namespaces)
    for path in paths:
        for file in _files(path):
            collector.read(file)
    if collector.problems:
        raise ConfigurationError(*collector.problems)
    return RbacStore(item for item, _ in collector.found.values())


class _Collector:
    """Gathers objects with their places, and all problems."""

    def __init__(self, namespaces: Callable[[Object], None]) -> None:
        self._namespaces = namespaces
        self.found: dict[Key, tuple[Role | Binding, Problem]] = {}
        self.problems: list[Problem] = []

    def read(self, file: Path) -> None:
        try:
            for data in documents.read(file):
                for item in _objects(data):
                    if _type(item) == _NAMESPACE:
                        self._tell(item)
                    else:
                        self._take(item, file)
        except Undecodable as error:
            self.problems.append(Problem(str(error), file, error.line, int(error.line > 0)))
        except ConfigurationError as error:
            self.problems += error.problems

    def _take(self, data: Object, file: Path) -> None:
        line = fields.line_of(data)
        place = Problem(f"{data['kind']} {_name(data)}", file, line, int(line > 0))
        try:
            item = decode(data)
        except Undecodable as error:
            line = error.line or line
            self.problems.append(Problem(f"{place.message}: {error}", file, line, int(line > 0), "quote text in YAML"))
        except Unacceptable as error:
            _log.warning("%s grants nothing, kube-apiserver would refuse it: %s", place, error)
        else:
            self._keep(item, place)

    def _tell(self, namespace: Object) -> None:
        metadata = fields.object_(namespace, "metadata")
        if fields.text(metadata, "name"):
            fields.text_map(metadata, "annotations")
            self._namespaces(namespace)

    def _keep(self, item: Role | Binding, place: Problem) -> None:
        other, first = self.found.setdefault(item.key, (item, place))
        if other != item:
            where = f"{first.file}:{first.line}" if first.line else first.file
            message = f"{place.message} differs from the one in {where}"
            self.problems.append(Problem(message, place.file, place.line, place.column, "keep one of them"))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = [file for file in sorted(path.rglob("*")) if file.suffix in documents.SUFFIXES and file.is_file()]
    shown = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not shown:
        raise ConfigurationError(
            Problem("no manifests in this folder", path, hint="name *.yaml, *.yml or *.json files")
        )
    yield from shown


def _objects(document: Any) -> Iterator[Object]:
    """Yield the RBAC objects of a document, those in lists included."""
    pending = [document]
    while pending:
        data = {} if (item := pending.pop()) is None else item
        if not isinstance(data, dict):
            raise Undecodable(f"expected a Kubernetes object, found {fields.kind_of(data)}")
        kind, version = _type(data)
        if (kind in KINDS and version.startswith(_IN_GROUP)) or (kind, version) == _NAMESPACE:
            yield data
        elif kind == "List" and version == "v1":
            pending += reversed(fields.objects(data, "items"))
        elif kind in _LISTS and version.startswith(_IN_GROUP):
            pending += [_typed(item, _LISTS[kind], version) for item in reversed(fields.objects(data, "items"))]


def _type(data: Object) -> tuple[str, str]:
    kind, version = data.get("kind"), data.get("apiVersion")
    return (kind, version) if isinstance(kind, str) and isinstance(version, str) else ("", "")


def _typed(item: Object, kind: str, version: str) -> Object:
    """Return an item of a typed list, whose items may leave kind and apiVersion to the list."""
    typed = fields.Located(item, kind=kind, apiVersion=version)
    typed.line = fields.line_of(item)
    return typed


def _name(data: Object) -> str:
    metadata = data.get("metadata")
    known = metadata if isinstance(metadata, dict) else {}
    parts = [known.get("namespace"), known.get("name")]
    return "/".join(part for part in parts if isinstance(part, str)) or "without a name"
