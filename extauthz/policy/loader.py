"""From policy files to a `Policy`: everything is checked before anything serves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from extauthz import document
from extauthz.document import Document, near
from extauthz.errors import ConfigurationError, Problem
from extauthz.policy import files
from extauthz.policy.check import Asked
from extauthz.policy.compiler import Compiler
from extauthz.policy.known import remember
from extauthz.policy.routes import Missing, Routes
from extauthz.policy.rule import Rule, nobody
from extauthz.policy.shadow import Shadow, is_shadow
from extauthz.policy.sources import LookUp, Reading
from extauthz.policy.syntax import KeyReaders, Known
from extauthz.policy.template import Mistake
from extauthz.policy.values import NO_VALUES, NamedValues, Values
from extauthz.request import Request
from extauthz.request.target import is_worth_knowing
from extauthz.subject import Subject

GATEWAY = "gateway"
"""The placement that is guarded where the settings name no other."""

Places = Mapping[Rule, tuple[Path, int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All rules. Immutable: a reload makes a new one."""

    rules: tuple[Rule, ...]
    routes: Routes
    enforced: Routes
    """The routes without the rules that are in shadow; the same object where there are none."""
    shadow: Shadow = field(default_factory=Shadow)
    placements: frozenset[str] = frozenset()
    """The placements that the files name; rules of all of them are checked, those of one decide."""
    warnings: tuple[Problem, ...] = ()
    _known: dict[tuple[Rule, str], tuple[Asked, ...]] = field(default_factory=dict, repr=False)

    def find(self, request: Request) -> Rule | Missing:
        """Return the rule that a request is about, in shadow or not.

        A rule in shadow takes no other request with it: where it only makes the policy more
        specific, what is enforced is asked.
        """
        found = self.routes.find(request)
        if self.routes is self.enforced or isinstance(found, Rule) or found.fault:
            return found
        return self.enforced.find(request)

    def asked(
        self, rule: Rule, request: Request, subject: Subject | None, lookup: LookUp = nobody
    ) -> tuple[Asked, ...]:
        """Return which rights a rule asks for, as `Rule.asked` does.

        What rests on path and query alone is read once for each target, refusals apart.
        """
        key = (rule, request.target)
        known = self._known.get(key)
        if known is not None:
            return known
        reading = Reading(request, subject, lookup)
        asked = rule.asked_by(reading)
        if reading.beyond_target or not is_worth_knowing(request.target):
            return asked
        return remember(self._known, key, asked)


def load(
    paths: Sequence[Path],
    keys: KeyReaders,
    lookups: Collection[str] = (),
    *,
    placement: str = GATEWAY,
    hosts: Sequence[str] = (),
    session_cookie: str = "",
    values: Values = NO_VALUES,
) -> Policy:
    """Load policy files and folders for one placement. Raises ConfigurationError with every problem found.

    `lookups` are the kinds of objects whose namespace can be asked for; `hosts` those of
    rules that name none; `session_cookie` is a further name for rules that remove cookies;
    `values` replace those that the files name.
    """
    known = Known(keys, lookups, values)
    found = _Found(lambda part: Compiler(part, known, placement, tuple(hosts), session_cookie), NamedValues(values))
    for file in files.find(paths):
        found.read(file)
    first = next(iter(paths), None)
    routes = enforced = Routes()
    problems = [*found.problems, *found.unplaced(placement, first), *found.values.unknown(first)]
    problems += _join(found.places, routes)
    if any(rule.shadow for rule in found.places):
        enforced = Routes()
        problems += _join({rule: place for rule, place in found.places.items() if not rule.shadow}, enforced)
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))
    empty = () if found.places else (Problem("the policy has no rule, so every request is refused", first),)
    return Policy(
        tuple(found.places), routes, enforced, found.shadow, found.placements, (*empty, *found.shadow.warnings)
    )


class _Found:
    """What the policy files hold, and what is wrong with each by itself."""

    def __init__(self, compiler: Callable[[Document], Compiler], values: NamedValues) -> None:
        self.values = values
        self.places: dict[Rule, tuple[Path, int, int]] = {}
        self.placements: frozenset[str] = frozenset()
        self.shadow = Shadow()
        self.problems: list[Problem] = []
        self._compiler = compiler

    def read(self, file: Path) -> None:
        """Take the documents of a file."""
        try:
            parts = document.read(file)
        except ConfigurationError as error:
            self.problems += error.problems
            return
        for part in parts:
            if is_shadow(part):
                self._add_shadow(part)
            else:
                self._add_rules(part)

    def unplaced(self, placement: str, path: Path | None) -> Iterator[Problem]:
        """Find that no file knows the placement that is guarded."""
        if self.placements and placement not in self.placements:
            known = ", ".join(sorted(self.placements))
            hint = near(placement, self.placements) or f"the files' placements are {known}"
            yield Problem(f"no policy file has the placement {placement!r}", path, hint=hint)

    def _add_shadow(self, part: Document) -> None:
        try:
            self.shadow = self.shadow.joined(part)
        except ConfigurationError as error:
            self.problems += error.problems

    def _add_rules(self, part: Document) -> None:
        compiler = self._compiler(part)
        self.places |= compiler.rules()
        self.problems += compiler.problems
        self.placements |= compiler.placements
        self.problems += self.values.add(part, compiler.values)


def load_everywhere(paths: Sequence[Path], keys: KeyReaders, lookups: Collection[str] = ()) -> dict[str, Policy]:
    """Load policy files and folders for each placement that they name. Raises ConfigurationError."""
    parts = (part.data for file in files.find(paths) for part in document.read(file))
    named = (part.get("placements") for part in parts if isinstance(part, dict))
    placements = {name for placements in named if isinstance(placements, dict) for name in placements}
    return {name: load(paths, keys, lookups, placement=name) for name in sorted(placements) or [GATEWAY]}


def _join(places: Places, routes: Routes) -> Iterator[Problem]:
    names: dict[str, Rule] = {}
    for rule, place in places.items():
        first = names.setdefault(rule.ref.name, rule)
        # One rule stands below each prefix of its placement.
        if first.ref != rule.ref:
            message = f"rule name {rule.ref.name!r} is taken by {first.ref}"
            yield Problem(message, *place, "choose another name")
            continue
        try:
            routes.add(rule)
        except Mistake as mistake:
            yield Problem(str(mistake), *place, mistake.hint)
    for rule, doubt in (*routes.ambiguities(), *_walked_around(places)):
        yield Problem(str(doubt), *places[rule], doubt.hint)


def _walked_around(rules: Iterable[Rule]) -> Iterator[tuple[Rule, Mistake]]:
    """Find rules that a request could escape by a spelling that a broader rule tolerates."""
    for tolerant in (rule for rule in rules if rule.tolerates_paths):
        for rule in rules:
            if rule.template.shape != tolerant.template.shape and rule.template.lies_below(tolerant.template):
                message = f"rule {rule.ref.name!r} lies below {tolerant.ref}, which tolerates ambiguous paths"
                yield rule, Mistake(message, "make one rule of both, or tolerate nothing there")
