"""The route matcher: a trie over path segments, so its cost does not grow with the number of rules.

At each segment a literal wins over a variable with a suffix, that over a plain variable,
that over the tail. The most specific template decides alone: a method that it does not
know is refused, never handed on to a broader rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from extauthz.policy.template import Template
from extauthz.request import Fault, Request

if TYPE_CHECKING:
    from extauthz.policy.rule import Rule

ANY = "*"


@dataclass(frozen=True, slots=True)
class Missing:
    """No rule decides the request; `methods` are those that its path knows."""

    methods: tuple[str, ...] = ()
    fault: Fault | None = None


@dataclass(slots=True)
class Leaf:
    """The rules of one template shape, by method and then by host."""

    rules: dict[str, dict[str, Rule]] = field(default_factory=dict)

    def add(self, rule: Rule) -> Rule | None:
        """Add a rule; return the rule it collides with, if any."""
        for method in rule.methods or (ANY,):
            hosts = self.rules.setdefault(method, {})
            for host in rule.hosts or (ANY,):
                if hosts.setdefault(host, rule) is not rule:
                    return hosts[host]
        return None

    def find(self, method: str, host: str) -> Rule | None:
        for key in ("GET" if method == "HEAD" else method, ANY):
            hosts = self.rules.get(key)
            if hosts is not None and (rule := _by_host(hosts, host)):
                return rule
        return None


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
        self._spellings: dict[str, str] = {}

    def add(self, rule: Rule) -> str | None:
        """Add a rule. Return a sentence when another rule already decides the same requests."""
        shape = _shape(rule.template)
        spelling = self._spellings.setdefault(shape.lower(), shape)
        if spelling != shape:
            return f"its path differs only in letter case from another rule's: {spelling}"
        leaf = _place(self._exact, rule.template, fold=False)
        _place(self._folded, rule.template, fold=True, leaf=leaf)
        other = leaf.add(rule)
        return f"rule {other.ref} decides the same requests" if other else None

    def find(self, request: Request) -> Rule | Missing:
        """Return the one rule that decides a request."""
        segments = request.segments
        leaf = _search(self._exact, segments, 0)
        if leaf is None:
            return Missing()
        path = request.path
        lowered = path.lower()
        if lowered != path and _search(self._folded, tuple(lowered.split("/")[1:]), 0) is not leaf:
            return Missing(fault=Fault.PATH_CASE)
        rule = leaf.find(request.method, request.host)
        return rule if rule is not None else Missing(methods=tuple(sorted(leaf.rules)))


def _search(node: Node, segments: tuple[str, ...], index: int) -> Leaf | None:
    """Depth first, most specific first; bounded by the size of the trie."""
    if index == len(segments):
        return node.leaf
    segment = segments[index]
    child = node.literals.get(segment)
    if child is not None and (found := _search(child, segments, index + 1)):
        return found
    if segment:
        if node.suffixes:
            for suffix, child in node.suffixes.items():
                if len(segment) > len(suffix) and segment.endswith(suffix):
                    found = _search(child, segments, index + 1)
                    if found:
                        return found
        if node.variable is not None and (found := _search(node.variable, segments, index + 1)):
            return found
    return node.tail


def _place(node: Node, template: Template, *, fold: bool, leaf: Leaf | None = None) -> Leaf:
    for segment in template.segments:
        if segment.tail:
            node.tail = node.tail or leaf or Leaf()
            return node.tail
        if not segment.variable:
            literal = segment.literal.lower() if fold else segment.literal
            node = node.literals.setdefault(literal, Node())
        elif segment.suffix:
            suffix = segment.suffix.lower() if fold else segment.suffix
            node = node.suffixes.setdefault(suffix, Node())
        else:
            node.variable = node.variable or Node()
            node = node.variable
    node.leaf = node.leaf or leaf or Leaf()
    return node.leaf


def _shape(template: Template) -> str:
    """The template without the names of its variables."""
    parts = (
        "{...}" if part.tail else "{}" + part.suffix if part.variable else part.literal for part in template.segments
    )
    return "/" + "/".join(parts)


def _by_host(hosts: dict[str, Rule], host: str) -> Rule | None:
    if len(hosts) == 1 and ANY in hosts:
        return hosts[ANY]
    name = host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host.lower()
    name = name.removesuffix(".")
    if name in hosts:
        return hosts[name]
    while "." in name:
        name = name.partition(".")[2]
        if f"*.{name}" in hosts:
            return hosts[f"*.{name}"]
    return hosts.get(ANY)
