"""The route matcher: a trie over path segments, so its cost does not grow with the number of rules.

At each segment a literal wins over a variable with a suffix, that over a plain variable,
that over the tail. The most specific template decides alone: a method that it does not
know is refused, never handed on to a broader rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from extauthz.policy.hosts import name_of
from extauthz.policy.known import remember
from extauthz.policy.template import Mistake, Template
from extauthz.request import METHODS, Request
from extauthz.request.faults import Fault
from extauthz.request.target import is_worth_knowing

if TYPE_CHECKING:
    from extauthz.policy.rule import Rule

ANY = "*"
MAX_HOST_BYTES = 255
"""A DNS name is no longer; longer hosts are not remembered."""

_NARROW = "narrow its path, methods or hosts"


@dataclass(frozen=True, slots=True)
class Missing:
    """No rule decides the request; `methods` are those that its path knows."""

    methods: tuple[str, ...] = ()
    fault: Fault | None = None

    def sentence(self, method: str) -> str:
        """Say for the caller what is missing."""
        if self.methods:
            return f"No rule of the policy lets {method} pass on this path."
        return "No rule of the policy covers this path."


@dataclass(slots=True)
class Leaf:
    """The rules of one template shape, by method and then by host."""

    rules: dict[str, dict[str, Rule]] = field(default_factory=dict)
    by_host: bool = False
    tail: int | None = None

    def add(self, rule: Rule) -> None:
        """Add a rule. Raises Mistake where another rule decides the same requests.

        A rule in shadow may stand beside the one that it is to replace, and is found first.
        """
        self.by_host = self.by_host or bool(rule.hosts)
        for method in rule.methods or (ANY,):
            hosts = self.rules.setdefault(method, {})
            for host in rule.hosts or (ANY,):
                other = hosts.setdefault(host, rule)
                if other is not rule and other.shadow == rule.shadow:
                    raise Mistake(f"rule {rule.ref.name!r} decides the same requests as {other.ref}", _NARROW)
                if rule.shadow:
                    hosts[host] = rule

    def find(self, method: str, host: str) -> Rule | None:
        """Return the rule for a method and a host; the method counts first."""
        name = name_of(host) if self.by_host else ANY
        for key in ("GET" if method == "HEAD" else method, ANY):
            hosts = self.rules.get(key)
            if hosts is not None and name and (rule := _by_host(hosts, name)):
                return rule
        return None

    def ambiguities(self) -> Iterator[tuple[Rule, Mistake]]:
        """Find pairs of rules of which one has the narrower method and the other the narrower host."""
        for host, general in self.rules.get(ANY, {}).items():
            for method, hosts in self.rules.items():
                rule = None if ANY in (host, method) or host in hosts else _by_domain(hosts, host.removeprefix("*."))
                if rule:
                    message = f"rule {general.ref.name!r} decides the same requests as {rule.ref}"
                    yield general, Mistake(message, f"add a rule for {method} on {host}, or narrow one of the two")


@dataclass(slots=True)
class Node:
    """One position in a path."""

    literals: dict[str, Node] = field(default_factory=dict)
    suffixes: dict[str, Node] = field(default_factory=dict)
    variable: Node | None = None
    leaf: Leaf | None = None
    tail: Leaf | None = None


class Routes:
    """All rules of a policy, found by path, method and host."""

    def __init__(self) -> None:
        self._exact = Node()
        self._folded = Node()
        self._leaves: dict[str, Leaf] = {}
        self._first: dict[str, Rule] = {}
        self._plain = True
        self._known: dict[tuple[str, str, str], Rule | Missing] = {}

    def add(self, rule: Rule) -> None:
        """Add a rule. Raises Mistake where another rule decides the same requests."""
        shape = rule.template.shape
        first = self._first.setdefault(_fold(shape), rule)
        if first.template.shape != shape:
            message = f"the path of rule {rule.ref.name!r} differs only in letter case from that of {first.ref}"
            raise Mistake(message, _NARROW)
        self._plain = self._plain and shape == _fold(shape)
        leaf = self._leaves.setdefault(shape, Leaf(tail=rule.template.tail))
        _place(self._exact, rule.template, leaf, fold=False)
        _place(self._folded, rule.template, leaf, fold=True)
        leaf.add(rule)

    def ambiguities(self) -> Iterator[tuple[Rule, Mistake]]:
        """Find rules that decide the same requests as another, none of the two being the more specific."""
        for leaf in self._leaves.values():
            yield from leaf.ambiguities()

    def find(self, request: Request) -> Rule | Missing:
        """Return the one rule that decides a request; it depends on nothing but method, target and host."""
        key = (request.method, request.target, request.host)
        known = self._known.get(key)
        if known is not None:
            return known
        found = self._find(request)
        # What a stranger can choose at length is not remembered.
        bounded = request.method in METHODS and len(request.host) <= MAX_HOST_BYTES
        return remember(self._known, key, found) if bounded and is_worth_knowing(request.target) else found

    def _find(self, request: Request) -> Rule | Missing:
        leaf = _search(self._exact, request.segments, 0)
        if leaf is None:
            return Missing()
        if fault := self._respelled(request, leaf):
            return Missing(fault=fault)
        rule = leaf.find(request.method, request.host)
        return rule if rule is not None else Missing(methods=tuple(sorted(leaf.rules)))

    def _respelled(self, request: Request, leaf: Leaf) -> Fault | None:
        """Return a fault where a server that folds case, decodes or drops a slash would see another route."""
        if not request.segments[-1] and self._is_slashed(request.segments, leaf):
            return Fault.TRAILING_SLASH
        path = request.path
        encoded = "%" in path
        if self._plain and not encoded and path == path.lower():
            return None
        if _search(self._folded, tuple(map(_fold, request.segments)), 0) is leaf:
            return None
        return Fault.ENCODED_UNRESERVED if encoded else Fault.PATH_CASE

    def _is_slashed(self, segments: tuple[str, ...], leaf: Leaf) -> bool:
        """Whether a tail has swallowed a path that would have a rule of its own without its last slash."""
        if leaf.tail is None or leaf.tail >= len(segments) - 1:
            return False
        bare = _search(self._exact, segments[:-1], 0)
        return bare is not None and bare.tail is None


def _search(node: Node, segments: tuple[str, ...], index: int) -> Leaf | None:
    """Depth first, most specific first; bounded by the size of the trie."""
    if index == len(segments):
        return node.leaf
    segment = segments[index]
    child = node.literals.get(segment)
    if child is not None and (found := _search(child, segments, index + 1)):
        return found
    if node.suffixes:
        head, colon, end = segment.rpartition(":")
        child = node.suffixes.get(colon + end) if head else None
        if child is not None and (found := _search(child, segments, index + 1)):
            return found
    if segment and node.variable is not None and (found := _search(node.variable, segments, index + 1)):
        return found
    return node.tail


def _place(node: Node, template: Template, leaf: Leaf, *, fold: bool) -> None:
    for segment in template.segments:
        if segment.tail:
            node.tail = leaf
            return
        if not segment.variable:
            node = node.literals.setdefault(_fold(segment.literal) if fold else segment.literal, Node())
        elif segment.suffix:
            node = node.suffixes.setdefault(_fold(segment.suffix) if fold else segment.suffix, Node())
        else:
            node.variable = node.variable or Node()
            node = node.variable
    node.leaf = leaf


def _fold(text: str) -> str:
    """What a server reads that decodes a segment and takes no heed of letter case."""
    return unquote(text).casefold()


def _by_host(hosts: dict[str, Rule], name: str) -> Rule | None:
    return hosts.get(name) or _by_domain(hosts, name)


def _by_domain(hosts: dict[str, Rule], name: str) -> Rule | None:
    """Return the rule of the nearest domain above a host."""
    while "." in name:
        name = name.partition(".")[2]
        if f"*.{name}" in hosts:
            return hosts[f"*.{name}"]
    return hosts.get(ANY)
