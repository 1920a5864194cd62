"""From one policy document to its rules; every problem names the place where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import re2

from extauthz.decision import RuleRef
from extauthz.document import Document, Location, near
from extauthz.errors import ConfigurationError, Problem
from extauthz.policy import hosts, syntax, template, tolerance
from extauthz.policy.check import (
    ALL_NAMESPACES,
    AUTHENTICATED,
    NAMESPACE,
    REFUSE,
    SHARED,
    UNSCOPED_LIST,
    Bound,
    NonResource,
    Resource,
    When,
)
from extauthz.policy.hosts import HostPattern
from extauthz.policy.model import COOKIE_NAME, HEADER_NAME, Check, PolicyModel, RequirementModel, RuleModel
from extauthz.policy.rule import Answer, Requirement, Rule, Withheld
from extauthz.policy.sources import Literal, LookedUp
from extauthz.policy.syntax import Known
from extauthz.policy.template import Mistake, Template
from extauthz.policy.values import Values, mismatches

if TYPE_CHECKING:
    from extauthz.policy.condition import Condition

_REQUIRED = ("verb", "resource", "path", "forbid")
_ABSENT_WORDS = (REFUSE, ALL_NAMESPACES, AUTHENTICATED, SHARED)
_SHARED_WORDS = (REFUSE, AUTHENTICATED)
_READING = ("get", "list")
_SILENT = re2.Options()
_SILENT.log_errors = False


class Compiler:
    """Compiles one document for one placement. `problems` holds what is wrong with it.

    `hosts` are those of rules that name none. `placements` and `values` are those that the document names; the
    values in `known` are the settings', which replace the document's. `session_cookie` is how the names of the
    session's cookies begin.
    """

    def __init__(
        self, part: Document, known: Known, placement: str, hosts: tuple[str, ...] = (), session_cookie: str = ""
    ) -> None:
        self.part = part
        self.known = known
        self.placement = placement
        self.hosts = hosts
        self.session_cookie = session_cookie
        self.placements: frozenset[str] = frozenset()
        self.values: Values = {}
        self.user_only = False
        self.problems: list[Problem] = []

    def rules(self) -> dict[Rule, tuple[Path, int, int]]:
        """Return the rules that count at the placement, each with its place; rules of others are checked, too."""
        try:
            model = self.part.validate(PolicyModel)
        except ConfigurationError as error:
            self.problems += error.problems
            return {}
        self.values = model.values
        given = self.known.values
        self.problems += mismatches(self.part, model.values, given)
        self.known = replace(self.known, values={name: given.get(name, own) for name, own in model.values.items()})
        self.user_only = self._text(model.review_as, ("reviewAs",), ("subject", "user")) == "user"
        placements = model.placements or {self.placement: ""}
        prefixes = placements.get(self.placement, next(iter(placements.values())))
        self.placements = frozenset(model.placements or ())
        compiled: dict[Rule, tuple[Path, int, int]] = {}
        for index, rule in enumerate(model.rules):
            place = (self.part.file, *self.part.position(("rules", index, "name")))
            # A mistake in a rule is told once, not once for each prefix.
            before = len(self.problems)
            for prefix in [prefixes] if isinstance(prefixes, str) else prefixes:
                made = self._rule(rule, model, prefix, ("rules", index)) if len(self.problems) == before else None
                if made is not None and self.placement in placements:
                    compiled[made] = place
            if len(self.problems) > before:
                compiled = {made: known for made, known in compiled.items() if known != place}
        return compiled

    def _problem(self, place: Location, message: str, hint: str = "") -> None:
        self.problems.append(self.part.problem(place, message, hint))

    def _rule(self, model: RuleModel, file: PolicyModel, prefix: str, place: Location) -> Rule | None:
        names = model.match.hosts or self.hosts
        try:
            path = replace(template.parse(prefix + model.match.path), host=_host_pattern(names))
        except Mistake as mistake:
            self._problem((*place, "match", "path"), f"path: {mistake}", mistake.hint)
            return None
        checks = [self._check(check, path, (*place, "access", i)) for i, check in enumerate(model.access or ())]
        forbidden = [self._forbidden(text, model, path, (*place, "forbid", i)) for i, text in enumerate(model.forbid)]
        required = [self._requirement(one, path, (*place, "require", i)) for i, one in enumerate(model.require)]
        condition = self._condition(model, path, (*place, "when"))
        for below, message, hint in tolerance.mistakes(model, path, condition):
            self._problem((*place, "tolerate", *below), message, hint)
        if model.enforce == "shadow" and model.allow and not model.when:
            self._problem((*place, "enforce"), "enforce: shadow needs access, deny or when; the rule refuses nobody")
        line, _ = self.part.position((*place, "name"))
        return Rule(
            ref=RuleRef(model.name, str(self.part.file), line),
            template=path,
            answer=Answer(model.allow or ("deny" if model.deny else "access")),
            methods=tuple(model.match.methods or ()),
            hosts=tuple(map(hosts.matched, names)),
            checks=tuple(check for check in checks if check),
            forbidden=tuple(bound for bound in forbidden if bound),
            required=tuple(requirement for requirement in required if requirement),
            tolerated=frozenset(model.tolerate),
            message=model.deny or "",
            shadow=model.enforce == "shadow",
            user_only=self.user_only,
            withheld=self._withheld(model, place),
            condition=condition,
        )

    def _withheld(self, model: RuleModel, place: Location) -> Withheld | None:
        headers = self._names(model.remove_headers, HEADER_NAME, (*place, "removeHeaders"))
        cookies = self._names(model.remove_cookies, COOKIE_NAME, (*place, "removeCookies"))
        own = [self.session_cookie] if self.session_cookie and cookies else []
        return Withheld(tuple(headers), (*cookies, *own)) if headers or cookies else None

    def _names(self, written: list[str] | str, pattern: str, place: Location) -> list[str]:
        try:
            names = syntax.texts(written, self.known)
        except Mistake as mistake:
            self._problem(place, f"{place[-1]}: {mistake}", mistake.hint)
            return []
        for name in names:
            if re.fullmatch(pattern, name) is None:
                self._problem(place, f"{place[-1]}: {name!r} cannot be a name here")
        return names

    def _check(self, model: Check, path: Template, place: Location) -> Resource | NonResource | None:
        verb = self._bound(model.verb, path, (*place, "verb"))
        when = When(
            present=self._bound(model.if_present, path, (*place, "ifPresent")) if model.if_present else None,
            absent=self._bound(model.if_absent, path, (*place, "ifAbsent")) if model.if_absent else None,
            unless=frozenset(model.unless or ()),
        )
        if model.path is not None:
            url = self._bound(model.path, path, (*place, "path"))
            return NonResource(verb, url, when) if verb and url else None
        resource = self._bound(model.resource or "", path, (*place, "resource"))
        name = self._bound(model.name, path, (*place, "name")) if model.name else None
        namespace = [self._bound(text, path, where) for text, where in _namespaces(model, place)]
        absent = self._word(model, model.absent_namespace, _ABSENT_WORDS, (*place, "absentNamespace"))
        shared = self._word(model, model.shared_namespace, _SHARED_WORDS, (*place, "sharedNamespace"))
        self._named_by_lookup(name, namespace, place)
        if verb is None or resource is None:
            return None
        return Resource(
            verb=verb,
            group=model.group,
            version=model.version,
            resource=resource,
            subresource=model.subresource,
            namespace=tuple(bound for bound in namespace if bound),
            absent_namespace=absent,
            shared_namespace=shared,
            name=name,
            when=when,
        )

    def _word(self, model: Check, text: str, words: tuple[str, ...], place: Location) -> str:
        key, word = place[-1], self._text(text, place)
        if word == AUTHENTICATED and model.verb not in _READING:
            self._problem(place, f"{key}: {word} is for {' and '.join(_READING)}; every other verb needs a right")
        elif word == SHARED and SHARED in words:
            self._unscoped_list(model, place)
        elif word not in words and (NAMESPACE.fullmatch(word) is None or near(word, words, likeness=0.9)):
            message = f"{key}: {word!r} is neither {', '.join(words)} nor the name of a namespace"
            self._problem(place, message, near(word, words))
        return word

    def _text(self, text: str, place: Location, words: Sequence[str] = ()) -> str:
        """Return a text, or what the value that it names says instead: one of `words`, where there are any."""
        try:
            found = syntax.text(text, self.known)
        except Mistake as mistake:
            self._problem(place, f"{place[-1]}: {mistake}", mistake.hint)
            return REFUSE
        if words and found not in words:
            self._problem(place, f"{place[-1]}: {found!r} is neither {' nor '.join(words)}", near(found, words))
        return found

    def _unscoped_list(self, model: Check, place: Location) -> None:
        if model.verb != "list":
            self._problem(place, f"{place[-1]}: {SHARED} is for list; of one object only its id tells whose it is")
        if UNSCOPED_LIST not in self.known.lookups:
            hint = "name the KFP API in the settings, under lookups.kfp"
            self._problem(place, f"{place[-1]}: {SHARED} has nobody to ask", hint)

    def _named_by_lookup(self, name: Bound | None, namespace: list[Bound | None], place: Location) -> None:
        """The name of an object must come with its namespace, so that nothing is told of it before."""
        lookups = [bound.source for bound in namespace if bound and isinstance(bound.source, LookedUp)]
        if name is None or not isinstance(name.source, LookedUp) or replace(name.source, named=False) in lookups:
            return
        wanted = name.text.removesuffix("?").replace(".name", "", 1)
        self._problem((*place, "name"), f"name: {name.text!r} needs the namespace of the same object", f"add {wanted}")

    def _requirement(self, model: RequirementModel, path: Template, place: Location) -> Requirement | None:
        try:
            pattern = re2.compile(model.matches, _SILENT) if model.matches is not None else None
            served = syntax.texts(model.one_of or [], self.known)
        except Mistake as mistake:
            self._problem((*place, "oneOf"), f"oneOf: {mistake}", mistake.hint)
            return None
        except re2.error as error:
            self._problem((*place, "matches"), f"matches: not a regular expression: {error.args[0].decode()}")
            return None
        bound = self._bound(model.source, path, (*place, "source"))
        return Requirement(bound, frozenset(served), pattern) if bound else None

    def _forbidden(self, text: str, model: RuleModel, path: Template, place: Location) -> Bound | None:
        bound = self._bound(text, path, place)
        if bound is not None and isinstance(bound.source, Literal):
            hint = f"name a source, such as query:{text}"
            self._problem(place, f"{_label(place)}: {text!r} is a literal, and would always be there", hint)
        if model.allow == "public" and "claim:" in text:
            self._problem(place, f"{_label(place)}: a public rule knows no claim")
        return bound

    def _bound(self, text: str, path: Template, place: Location) -> Bound | None:
        try:
            bound = Bound(text, syntax.parse(text.removesuffix("?"), path, self.known), text.endswith("?"))
            _check_bound(bound, _key(place))
        except Mistake as mistake:
            self._problem(place, f"{_label(place)}: {mistake}", mistake.hint)
            return None
        return bound

    def _condition(self, model: RuleModel, path: Template, place: Location) -> Condition | None:
        if model.when is None:
            return None
        # Few policies have conditions; the others do without the library.
        from extauthz.policy.condition import compile_condition

        try:
            return compile_condition(model.when, path, self.known, identified=model.allow != "public")
        except Mistake as mistake:
            self._problem(place, f"when: {mistake}", mistake.hint)
            return None


def _check_bound(bound: Bound, key: str) -> None:
    """Refuse what reads well but can never work. Raises Mistake."""
    text, literal = bound.text, isinstance(bound.source, Literal)
    if bound.optional and literal:
        raise Mistake(f"{text!r} is a literal and cannot be optional", "remove the question mark")
    if bound.optional and key in _REQUIRED:
        raise Mistake(f"{text!r} cannot be optional", "remove the question mark")
    if key == "namespace" and isinstance(bound.source, Literal) and NAMESPACE.fullmatch(bound.source.value) is None:
        raise Mistake(f"{text!r} is not the name of a namespace")
    if key in ("ifPresent", "ifAbsent") and (literal or bound.optional):
        raise Mistake(f"{text!r} is always or never there", "name a source without a question mark")
    if isinstance(bound.source, LookedUp) and key != ("name" if bound.source.named else "namespace"):
        raise Mistake(f"{text!r} has no place here", "lookup:KIND is a namespace, lookup:KIND.name a name")
    if key == "source" and literal:
        raise Mistake(f"{text!r} is a literal, and would always be there", f"name a source, such as query:{text}")
    if key == "path" and isinstance(bound.source, Literal) and not bound.source.value.startswith("/"):
        raise Mistake(f"{text!r} is not a path", "start it with a slash")


def _host_pattern(names: Sequence[str]) -> HostPattern | None:
    """Return the one pattern whose labels a rule can read."""
    pattern = hosts.parse(names[0]) if len(names) == 1 else None
    return pattern if pattern and pattern.variables else None


def _namespaces(model: Check, place: Location) -> Iterator[tuple[str, Location]]:
    if isinstance(model.namespace, list):
        yield from ((text, (*place, "namespace", index)) for index, text in enumerate(model.namespace))
    elif model.namespace is not None:
        yield model.namespace, (*place, "namespace")


def _key(place: Location) -> str:
    return next(part for part in reversed(place) if isinstance(part, str))


def _label(place: Location) -> str:
    return f"{_key(place)}[{place[-1]}]" if isinstance(place[-1], int) else str(place[-1])
