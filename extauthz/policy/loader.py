"""From policy files to a `Policy`: everything is checked before anything serves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from extauthz import document
from extauthz.decision import RuleRef
from extauthz.document import Document, Location
from extauthz.errors import ConfigurationError, Problem
from extauthz.policy import sources, template
from extauthz.policy.model import Check, PolicyModel, RuleModel
from extauthz.policy.routes import Missing, Routes
from extauthz.policy.rule import ALL_NAMESPACES, REFUSE, Answer, Bound, NonResource, Resource, Rule
from extauthz.policy.sources import KeyReaders
from extauthz.policy.template import Template
from extauthz.request import Request

_SUFFIXES = (".yaml", ".yml")
_NAMESPACE_WORDS = (REFUSE, ALL_NAMESPACES)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All rules. Immutable: a reload makes a new one."""

    rules: tuple[Rule, ...]
    routes: Routes
    warnings: tuple[Problem, ...] = ()

    def find(self, request: Request) -> Rule | Missing:
        """Return the rule that decides a request."""
        return self.routes.find(request)


def load(paths: Sequence[Path], keys: KeyReaders) -> Policy:
    """Load policy files and folders. Raises ConfigurationError with every problem found."""
    problems: list[Problem] = []
    rules: list[Rule] = []
    for file in files(paths):
        try:
            for part in document.read(file):
                rules += _Compiler(part, keys).rules(problems)
        except ConfigurationError as error:
            problems += error.problems
    routes = Routes()
    problems += _join(rules, routes)
    if problems:
        raise ConfigurationError(*problems)
    warnings = (
        () if rules else (Problem("the policy has no rule, so every request is refused", next(iter(paths), None)),)
    )
    return Policy(tuple(rules), routes, warnings)


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the YAML files below paths, sorted; hidden files and folders are left out, as a ConfigMap mount needs."""
    for path in paths:
        if path.is_dir():
            found = (file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
            yield from sorted(file for file in found if not _hidden(file.relative_to(path)))
        elif path.exists():
            yield path
        else:
            raise ConfigurationError(Problem("no such file or folder", path))


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _join(rules: Iterable[Rule], routes: Routes) -> Iterator[Problem]:
    names: dict[str, RuleRef] = {}
    for rule in rules:
        ref = rule.ref
        place = (Path(ref.file), ref.line, 1)
        if names.setdefault(ref.name, ref) is not ref:
            yield Problem(f"rule name {ref.name!r} is taken by {names[ref.name]}", *place, "choose another name")
        elif collision := routes.add(rule):
            yield Problem(f"rule {ref.name!r}: {collision}", *place, "narrow its path, methods or hosts")


class _Compiler:
    """Compiles one document; every problem names the place where it stands."""

    def __init__(self, part: Document, keys: KeyReaders) -> None:
        self.part = part
        self.keys = keys

    def rules(self, problems: list[Problem]) -> list[Rule]:
        compiled = []
        for index, model in enumerate(self.part.validate(PolicyModel).rules):
            found: list[Problem] = []
            rule = self._rule(model, ("rules", index), found)
            problems += found
            if rule is not None and not found:
                compiled.append(rule)
        return compiled

    def _rule(self, model: RuleModel, place: Location, problems: list[Problem]) -> Rule | None:
        match_place = (*place, "match", "path")
        try:
            path = template.parse(model.match.path)
        except ValueError as error:
            problems.append(self.part.problem(match_place, f"match.path: {error}"))
            return None
        checks = tuple(
            check
            for index, item in enumerate(model.access or ())
            if (check := self._check(item, path, (*place, "access", index), problems))
        )
        forbidden = tuple(
            bound
            for index, text in enumerate(model.forbid)
            if (bound := self._bound(text, path, (*place, "forbid", index), problems))
        )
        problems += self._tolerance(model, path, (*place, "tolerate"))
        line, _ = self.part.position((*place, "name"))
        return Rule(
            ref=RuleRef(model.name, str(self.part.file), line),
            template=path,
            answer=Answer(model.allow or ("deny" if model.deny else "access")),
            methods=tuple(model.match.methods or ()),
            hosts=tuple(model.match.hosts or ()),
            checks=checks,
            forbidden=forbidden,
            tolerated=frozenset(model.tolerate),
            message=model.deny or "",
            shadow=model.enforce == "shadow",
        )

    def _tolerance(self, model: RuleModel, path: Template, place: Location) -> Iterator[Problem]:
        if not model.tolerate:
            return
        tail = path.segments[-1].variable if path.segments[-1].tail else None
        if tail is not None and path.tail == 0:
            yield self.part.problem(place, "a rule for every path cannot tolerate ambiguity", "give it a fixed prefix")
        texts = [text for check in model.access or () for text in _texts(check)] + model.forbid
        if tail is not None and any(text.removesuffix("?").endswith(f"path:{tail}") for text in texts):
            yield self.part.problem(place, f"the rule reads path:{tail}, so it cannot tolerate ambiguity there")

    def _check(
        self, model: Check, path: Template, place: Location, problems: list[Problem]
    ) -> Resource | NonResource | None:
        def bound(key: str, text: str) -> Bound | None:
            return self._bound(text, path, (*place, key), problems)

        verb = bound("verb", model.verb)
        if model.path is not None:
            url = bound("path", model.path)
            return NonResource(verb, url) if verb and url else None
        resource = bound("resource", model.resource or "")
        name = bound("name", model.name) if model.name else None
        texts = model.namespace if isinstance(model.namespace, list) else [model.namespace] if model.namespace else []
        namespace = [
            self._bound(text, path, (*place, "namespace", index), problems) for index, text in enumerate(texts)
        ]
        problems += self._absence(model, place)
        if verb is None or resource is None:
            return None
        return Resource(
            verb=verb,
            group=model.group,
            version=model.version,
            resource=resource,
            subresource=model.subresource,
            namespace=tuple(item for item in namespace if item),
            absent_namespace=model.absent_namespace,
            name=name,
        )

    def _absence(self, model: Check, place: Location) -> Iterator[Problem]:
        word = model.absent_namespace
        if ":" in word or not word.islower():
            yield self.part.problem(
                (*place, "absentNamespace"),
                f"absentNamespace: {word!r} is neither refuse, all-namespaces nor the name of a namespace",
            )

    def _bound(self, text: str, path: Template, place: Location, problems: list[Problem]) -> Bound | None:
        optional = text.endswith("?")
        try:
            return Bound(text, sources.parse(text.removesuffix("?"), path, self.keys), optional)
        except ValueError as error:
            problems.append(self.part.problem(place, f"{place[-1]}: {error}"))
            return None


def _texts(check: Check) -> list[str]:
    namespaces = check.namespace if isinstance(check.namespace, list) else [check.namespace]
    values: list[str | None] = [check.verb, check.resource, check.name, check.path, *namespaces]
    return [value for value in values if value]
