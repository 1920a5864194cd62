"""What a policy covers: which rules tests reach, and which rule decides each known route of Kubeflow.

`routes.txt` is the compact form of the map of Kubeflow's routes: placement, method and path
of each, and a host where the route has one of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from extauthz.loading import KEYS, LOOKUPS
from extauthz.policy import Policy, Rule, load_everywhere
from extauthz.policytest.suite import Result, Suite
from extauthz.request import read

ROUTES = Path(__file__).parent / "routes.txt"
_VARIABLE = re.compile(r"\{[^{}]*\}|\*")


@dataclass(frozen=True, slots=True)
class Route:
    """A known route, and the rule that decides it; without one it is refused."""

    placement: str
    method: str
    path: str
    host: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one policy covers. `rules` counts, for each rule, the cases that reach it."""

    policies: tuple[str, ...]
    rules: dict[str, int]
    routes: tuple[Route, ...]

    @property
    def unreached(self) -> list[str]:
        """The rules that no case reaches."""
        return [name for name, count in self.rules.items() if not count]


def covered(suites: Iterable[Suite], results: Iterable[Result]) -> Iterator[Coverage]:
    """Yield what each policy that the suites test covers, at all of its placements. Raises ConfigurationError."""
    reached = Counter({(result.decision.rule, result.file, result.line) for result in results if result.decision.rule})
    count = Counter(ref for ref, _, _ in reached if ref)
    for paths in dict.fromkeys(tuple(suite.policies) for suite in suites):
        placed = load_everywhere(paths, KEYS, LOOKUPS)
        rules = {rule.ref: count[rule.ref] for loaded in placed.values() for rule in loaded.rules}
        decided = tuple(_decided(route, placed) for route in routes() if route.placement in placed)
        yield Coverage(tuple(map(str, paths)), {ref.name: number for ref, number in rules.items()}, decided)


@cache
def routes() -> tuple[Route, ...]:
    """Return every known route."""
    lines = (line for line in ROUTES.read_text().splitlines() if line and not line.startswith("#"))
    return tuple(Route(*line.split(" ")) for line in lines)


def _decided(route: Route, placed: dict[str, Policy]) -> Route:
    method = "GET" if route.method == "ANY" else route.method
    target = _VARIABLE.sub("x", route.path)
    found = placed[route.placement].find(read(method=method, target=target, headers={}, host=route.host))
    rule = found.ref.name if isinstance(found, Rule) else ""
    return Route(route.placement, route.method, route.path, route.host, rule)
