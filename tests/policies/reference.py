"""The two reference files as rows: what Kubeflow's routes are, and what each must ask for.

Nothing here knows our policies. Where they deviate on purpose, `route-deviations.yaml` says
so, with a reason, and changes the row. `route-examples.yaml` completes requests only.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import yaml

from tests.cases import DATA

_ALTERNATIVES = re.compile(r"\{([^{}]*\|[^{}]*)\}")
_KINDS = {
    **dict.fromkeys(("sar", "sar+extra", "cluster-sar", "not-via-gateway"), "access"),
    **dict.fromkeys(("allow", "authenticated", "self"), "authenticated"),
    **dict.fromkeys(("deny", "out-of-scope"), "refused"),
    "deny-external": "internal",
    "public": "public",
    "internal-only": "nowhere",
    "none": "nowhere",
}
_PLACEMENTS = {
    "ui": ("ml-pipeline-ui",),
    "mlmd": ("ml-pipeline-ui",),
    "k8s-native": ("kube-apiserver",),
    "serving-internal": ("cluster-local-gateway",),
    **dict.fromkeys(("rest-v1beta1", "rest-v2beta1", "rest-v2beta1-next", "upload"), ("ml-pipeline", "ml-pipeline-ui")),
    **dict.fromkeys(("rest-other", "grpc", "grpc-next", "webhook"), ("ml-pipeline",)),
}
"""Where a surface of the reference is guarded, beside the gateway."""


@dataclass(frozen=True)
class Right:
    """A right as the reference writes it; `namespace` and `name` say where the values come from."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True)
class Row:
    """One route. `kind` is what must become of it: access, authenticated, public, refused, internal or nowhere."""

    key: str
    surface: str
    method: str
    path: str
    kind: str
    version: str = ""
    rights: tuple[Right, ...] = ()
    agree: tuple[str, ...] = ()
    """Further places of the namespace, which must say the same where they say anything."""
    given: Mapping[str, str] = field(default_factory=dict)
    """What else the request needs: values by their location."""
    gateway_path: str | None = None
    reasons: tuple[str, ...] = ()

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield each placement where the route can be reached, with its path there."""
        if self.gateway_path is not None:
            yield "gateway", self.gateway_path
        for placement in _PLACEMENTS.get(self.surface, ()):
            yield placement, self.path
            if placement == "ml-pipeline-ui" and self.gateway_path and self.gateway_path != self.path:
                yield placement, self.gateway_path


@cache
def rows() -> tuple[Row, ...]:
    """Return every row, one for each method and path, with the deviations applied."""
    return tuple(_deviated(row) for row in (*_pipelines(), *_platform()))


@cache
def deviations() -> tuple[dict[str, Any], ...]:
    """Return the deviations."""
    return tuple(yaml.safe_load((DATA / "route-deviations.yaml").read_text()))


@cache
def examples() -> tuple[dict[str, Any], ...]:
    """Return what requests need beside what their rows say."""
    return tuple(yaml.safe_load((DATA / "route-examples.yaml").read_text()))


def undeviated() -> tuple[Row, ...]:
    """Return the rows as the reference has them."""
    return (*_pipelines(), *_platform())


def applies(deviation: Mapping[str, Any], row: Row) -> bool:
    """Whether a deviation is about a row."""
    return any(fnmatchcase(row.key, pattern) for pattern in deviation["rows"])


def _pipelines() -> Iterator[Row]:
    for raw in yaml.safe_load((DATA / "kfp-surface.yaml").read_text())["endpoints"]:
        prefix = (raw["gateway_path"] or "").removesuffix(raw["path"]) if raw["gateway_path"] else None
        main = Right(
            raw["verb"] or "",
            raw["group"] or "",
            raw["resource"] or "",
            raw.get("subresource", ""),
            _none(raw["namespace_from"]),
            _none(raw["name_from"]),
        )
        kind = _KINDS[raw["recommend"]]
        extra = [_extra(check, main) for check in raw.get("extra_checks", ()) if check["verb"] != "DENY"]
        for path in _alternatives(raw["path"]):
            yield Row(
                key=f"{raw['surface']} {raw['method']} {path}",
                surface=raw["surface"],
                method=raw["method"],
                path=path,
                kind=kind,
                version=raw["version"] or "",
                rights=(main, *extra) if kind in ("access", "internal") else (),
                agree=tuple(filter(None, (raw.get("namespace_must_equal_if_present"),))),
                gateway_path=None if prefix is None else prefix + path,
            )


def _platform() -> Iterator[Row]:
    for raw in yaml.safe_load((DATA / "kubeflow-platform.yaml").read_text())["routes"]:
        kind = _KINDS[raw["decision"]]
        paths = _split(raw["path"])
        for path, whole in ((one, alternative) for one in paths for alternative in _alternatives(one)):
            for method, verb, resource, group, version in _aligned(raw, paths.index(path), path, whole):
                main = Right(
                    verb, group, resource, raw["subresource"], _none(raw["namespace_from"]), _none(raw["name_from"])
                )
                extra = [_extra(check, main) for check in raw.get("extra_checks", ())]
                yield Row(
                    key=f"{raw['app']} {method} {whole}",
                    surface=raw["app"],
                    method=method,
                    path=whole,
                    kind=kind,
                    version=version,
                    rights=(main, *extra) if kind == "access" or raw["verb"] else (),
                    gateway_path=whole if raw["via_gateway"] else None,
                )


def _aligned(raw: Mapping[str, Any], index: int, path: str, whole: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Lists that stand in line: methods with verbs, alternatives in the path with groups and resources."""
    methods, verbs = raw["method"].split("|"), raw["verb"].split("|")
    place = list(_alternatives(path)).index(whole)
    resources, groups, versions = (raw[name].split("|") for name in ("resource", "group", "version"))
    for number, method in enumerate(methods):
        verb = verbs[number] if len(verbs) == len(methods) else verbs[0]
        yield method, verb, _nth(resources, place), _nth(groups, place), _nth(versions, place)


def _nth(values: list[str], index: int) -> str:
    return values[index] if len(values) > 1 else values[0]


def _extra(check: Mapping[str, str], main: Right) -> Right:
    namespace = check.get("namespace_from", main.namespace)
    return Right(
        check["verb"],
        check["group"],
        check["resource"],
        check.get("subresource", ""),
        _none(namespace),
        _none(check.get("name_from", "")),
    )


def _none(text: str) -> str:
    return "" if text in ("none", "cluster", "all") else text


def _split(path: str) -> list[str]:
    """Split at the bars that are in no braces."""
    return re.split(r"\|(?![^{]*\})", path)


def _alternatives(path: str) -> Iterator[str]:
    """Write out `{a|b}`."""
    parts = _ALTERNATIVES.split(path)
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    yield from map("".join, itertools.product(*choices))


def _deviated(row: Row) -> Row:
    for deviation in (*deviations(), *examples()):
        if applies(deviation, row):
            row = _changed(row, deviation)
    return row


def _changed(row: Row, deviation: Mapping[str, Any]) -> Row:
    main, *extra = row.rights or (Right("", "", ""),)
    main = replace(main, **{name: deviation[name] for name in ("namespace", "name", "resource") if name in deviation})
    if "right" in deviation:
        main = Right(**deviation["right"])
    added = [Right(**{"namespace": main.namespace, **right}) for right in deviation.get("adds", ())]
    if deviation.get("extras") is not None:
        extra = [Right(**{"namespace": main.namespace, **right}) for right in deviation["extras"]]
    return replace(
        row,
        kind=deviation.get("kind", row.kind),
        method=deviation.get("method", row.method),
        version=deviation.get("version", row.version),
        path=deviation.get("path", row.path),
        gateway_path=row.gateway_path and row.gateway_path.replace(row.path, deviation.get("path", row.path)),
        rights=(main, *extra, *added) if row.rights or "right" in deviation else (),
        given={**row.given, **deviation.get("given", {})},
        reasons=(*row.reasons, deviation["reason"]),
    )
