"""Conditions in CEL: what must be true of a request beside the rights that its rule asks for.

A condition is compiled and type-checked when the policy is loaded, so a misspelt name or a
comparison of text with a number is an error there. What it reads is known from its text:
headers, parameters and claims are named in it, and are read as the sources of that name are,
so that nothing can be read in two ways.

Promises: only `true` is true. What cannot be evaluated, such as a claim that the token does
not have, refuses the request. The cost is bounded by what the policy's author wrote: length,
number of operations, no loop inside a loop, patterns in linear time (RE2), and the library's
own limit of 10,000 rounds.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import re2
from cel.expr import checked_pb2
from cel_expr_python import cel
from google.protobuf import any_pb2

from extauthz.document import near
from extauthz.errors import Refused
from extauthz.policy import syntax
from extauthz.policy.hosts import name_of
from extauthz.policy.sources import Claim, Reading, Source
from extauthz.policy.syntax import Known
from extauthz.policy.template import Mistake, Template
from extauthz.subject import Subject

MAX_OPERATIONS = 200
"""How many operations, names and values one condition may have."""

HEADERS, QUERY, CLAIMS = "request.headers", "request.query", "claims"

_TEXTS = ("request.method", "request.path", "request.host")
_IDENTITY = ("identity.user", "identity.uid", "identity.authenticator")
_GROUPS = "identity.groups"
_SOURCES = {HEADERS: "header", QUERY: "query", CLAIMS: "claim"}
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})
_ERROR = re.compile(r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): (?P<what>[^\n]*)")
_ARGUMENTS = {"_[_]": (0, 1), "@in": (1, 0)}
"""Where a call has the map and the name in it."""

_logger = logging.getLogger(__name__)

Expr = Any


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """One compiled condition. `names` are the variables it reads, `sources` the named values of the request."""

    text: str
    names: frozenset[str]
    sources: tuple[tuple[str, str, Source], ...]
    """Variable, name in it, and the source that is read; a claim's may be anything but text."""
    program: cel.Expression

    def holds(self, reading: Reading) -> bool:
        """Whether the condition is true. Raises Refused where it cannot be evaluated."""
        data = self._data(reading)
        try:
            value = self.program.eval(data=data).value()
        except RuntimeError as error:
            value = error
        if isinstance(value, bool):
            return value
        _logger.info("the condition %r could not be evaluated: %r", self.text, str(value))
        raise Refused("condition_error", "The condition of the rule could not be evaluated.", status=403)

    def reads(self) -> Iterator[tuple[str, Callable[[Reading], str | None]]]:
        """Yield every source that the condition reads, and what reads it: `claims:NAME` in its JSON form."""
        for variable, name, source in self.sources:
            if variable == CLAIMS:
                yield f"{CLAIMS}:{name}", partial(_claim, name)
            else:
                yield f"{_SOURCES.get(variable, variable)}:{name}", source.read

    def _data(self, reading: Reading) -> dict[str, Any]:
        data: dict[str, Any] = {name: _FIXED[name](reading) for name in self.names & _FIXED.keys()}
        for name in self.names & _SOURCES.keys():
            data[name] = {}
        for variable, name, source in self.sources:
            if variable == CLAIMS:
                if name in reading.claims:
                    data[variable][name] = reading.claims[name]
            elif variable in _SOURCES:
                if (value := source.read(reading)) is not None:
                    data[variable][name] = value
            else:
                value = source.read(reading)
                # An empty tail is text; a host without that label is another host than the rule means.
                data[f"{variable}.{name}"] = _host(value) if variable == "host" else value or ""
        return data


def _claim(name: str, reading: Reading) -> str | None:
    return json.dumps(reading.claims[name]) if name in reading.claims else None


def _host(name: str | None) -> str:
    """Return the name. Raises Refused without one: a condition that excludes names would let it pass."""
    if name is None:
        raise Refused("condition_error", "The condition of the rule needs a host that reads in one way.", status=403)
    return name


def _asker(reading: Reading) -> Subject:
    if reading.subject is None:
        raise Refused("condition_error", "The condition of the rule needs somebody who asks.", status=403)
    return reading.subject


_FIXED: Mapping[str, Callable[[Reading], Any]] = {
    "request.method": lambda reading: reading.method,
    "request.path": lambda reading: reading.path,
    "request.host": lambda reading: _host(name_of(reading.host)),
    "identity.user": lambda reading: _asker(reading).user,
    "identity.uid": lambda reading: _asker(reading).uid,
    "identity.authenticator": lambda reading: _asker(reading).authenticator,
    _GROUPS: lambda reading: list(_asker(reading).groups),
}


def compile_condition(text: str, template: Template, known: Known, *, identified: bool) -> Condition:
    """Compile a condition; `identified` says whether there is always somebody who asks. Raises Mistake."""
    variables = _variables(template, identified=identified)
    try:
        program = cel.NewEnv(variables=variables).compile(text)
    except RuntimeError as error:
        raise _mistake(str(error), text, variables) from None
    if program.return_type() != cel.Type.BOOL:
        raise Mistake(f"the condition is {_kind(program)}, not true or false", "compare it with something")
    reads = _Reads()
    reads.walk(_tree(program), within=False)
    if reads.operations > MAX_OPERATIONS:
        raise Mistake(f"the condition has more than {MAX_OPERATIONS} operations", "split the rule, or use a list")
    names = frozenset(reads.names)
    return Condition(text, names, tuple(_sources(reads, names, template, known)), program)


def _variables(template: Template, *, identified: bool) -> dict[str, cel.Type]:
    kinds = cel.Type
    text = kinds.STRING
    found = dict.fromkeys(_TEXTS, text)
    found |= {HEADERS: kinds.Map(text, text), QUERY: kinds.Map(text, text)}
    found |= {f"path.{name}": text for name in template.variables}
    found |= {f"host.{name}": text for name in (template.host.variables if template.host else ())}
    if identified:
        found |= dict.fromkeys(_IDENTITY, text)
        found |= {_GROUPS: kinds.List(text), CLAIMS: kinds.Map(text, kinds.DYN)}
    return found


def _tree(program: cel.Expression) -> Expr:
    packed = any_pb2.Any.FromString(program.serialize())
    return checked_pb2.CheckedExpr.FromString(packed.value).expr


class _Reads:
    """What a condition reads, found in its syntax tree, and how much work it is."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.members: dict[tuple[str, str], None] = {}
        self.operations = 0

    def walk(self, expr: Expr, *, within: bool) -> None:
        """Look at an expression and all below it; `within` a loop there may be no other one. Raises Mistake."""
        self.operations += 1
        kind = expr.WhichOneof("expr_kind")
        if kind == "ident_expr":
            self._name(expr.ident_expr.name)
        elif member := _member(expr):
            self._member(*member)
        elif kind == "comprehension_expr":
            if within:
                raise Mistake("a loop inside a loop takes too long", "write one loop, or two beside each other")
            loop = expr.comprehension_expr
            self.walk(loop.iter_range, within=False)
            for part in (loop.accu_init, loop.loop_condition, loop.loop_step, loop.result):
                self.walk(part, within=True)
        else:
            if kind == "call_expr" and expr.call_expr.function == "matches":
                _check_pattern(expr.call_expr)
            for part in _parts(expr, kind):
                self.walk(part, within=within)

    def _name(self, name: str) -> None:
        if name in _SOURCES:
            raise Mistake(f"{name} cannot be read as a whole", f'name what you need, such as {name}["name"]')
        self.names.add(name)

    def _member(self, variable: str, name: str) -> None:
        if variable == HEADERS and name != name.lower():
            raise Mistake(f"header names are in lower case, {name!r} is not", f"write {name.lower()!r}")
        if variable == HEADERS and name in _CREDENTIALS:
            raise Mistake(f"the header {name!r} carries a credential", "name a claim, or the identity")
        self.names.add(variable)
        self.members[variable, name] = None


def _member(expr: Expr) -> tuple[str, str] | None:
    """Return the map and the name where an expression reads a member of one of the request's maps."""
    if expr.HasField("select_expr"):
        variable, name = expr.select_expr.operand.ident_expr.name, expr.select_expr.field
        return (variable, name) if variable in _SOURCES else None
    call = expr.call_expr
    if call.function not in _ARGUMENTS:
        return None
    map_at, name_at = _ARGUMENTS[call.function]
    variable, name = call.args[map_at].ident_expr.name, call.args[name_at].const_expr
    named = variable in _SOURCES and name.HasField("string_value")
    return (variable, name.string_value) if named else None


def _parts(expr: Expr, kind: str) -> Iterator[Expr]:
    if kind == "call_expr":
        if expr.call_expr.HasField("target"):
            yield expr.call_expr.target
        yield from expr.call_expr.args
    elif kind == "select_expr":
        yield expr.select_expr.operand
    elif kind == "list_expr":
        yield from expr.list_expr.elements
    elif kind == "struct_expr":
        for entry in expr.struct_expr.entries:
            yield entry.map_key
            yield entry.value


def _check_pattern(call: Expr) -> None:
    pattern = call.args[-1].const_expr
    if not pattern.HasField("string_value"):
        raise Mistake("a pattern must be written in the condition", 'such as matches("^team-")')
    try:
        re2.compile(pattern.string_value, _silent())
    except re2.error as error:
        raise Mistake(f"not a regular expression: {error.args[0].decode()}") from None


@cache
def _silent() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


def _sources(
    reads: _Reads, names: frozenset[str], template: Template, known: Known
) -> Iterator[tuple[str, str, Source]]:
    for variable, name in reads.members:
        # Claims may have any name, such as a URL.
        named = f"{_SOURCES[variable]}:{name}"
        yield variable, name, Claim(name) if variable == CLAIMS else syntax.parse(named, template, known)
    for qualified in sorted(names):
        variable, _, name = qualified.partition(".")
        if variable in ("path", "host"):
            yield variable, name, syntax.parse(f"{variable}:{name}", template, known)


def _mistake(error: str, text: str, variables: dict[str, cel.Type]) -> Mistake:
    """Say in one line what the compiler says in several."""
    found = _ERROR.search(error)
    if found is None:
        return Mistake(error.partition(" [")[0])
    line, column, what = int(found["line"]), found["column"], found["what"].partition(" (in container")[0]
    place = f"line {line}, character {column}" if "\n" in text.strip() else f"character {column}"
    unknown = re.fullmatch(r"undeclared reference to '([^']*)'", what)
    hint = near(unknown[1], variables) or f"the names are {', '.join(sorted(variables))}" if unknown else ""
    return Mistake(f"{what}, at {place} of the condition", hint)


def _kind(program: cel.Expression) -> str:
    return cast("str", program.return_type().name()).lower()
