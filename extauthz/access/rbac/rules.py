"""Whether a role's rules permit a request.

Literal and case-sensitive: `*` is special only in a rule, and only as a whole verb, API
group, resource or URL suffix. The meaning is that of Kubernetes'
`pkg/apis/rbac/v1/evaluation_helpers.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from extauthz.access.rbac.objects import Rule
from extauthz.review import Attributes, ResourceAttributes

_AnyOf = frozenset[str] | None
"""A set of accepted values; None accepts all."""


class RuleIndex:
    """The rules of one role, found by resource, so that a role of a hundred rules costs a few comparisons."""

    __slots__ = ("_by_resource", "_urls")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_resource: dict[str, list[tuple[_AnyOf, _AnyOf, _AnyOf]]] = {}
        self._urls: list[tuple[_AnyOf, str]] = []
        for rule in rules:
            self._add(rule)

    def _add(self, rule: Rule) -> None:
        verbs = _any_of(rule.verbs)
        entry = (verbs, _any_of(rule.api_groups), frozenset(rule.resource_names) or None)
        for resource in rule.resources:
            self._by_resource.setdefault(resource, []).append(entry)
        self._urls += ((verbs, url) for url in rule.non_resource_urls)

    def allow_resource(self, verb: str, group: str, resources: tuple[str, ...], name: str) -> bool:
        """Tell whether a rule written for one of `resources` permits a verb on an object of a group."""
        for resource in resources:
            for verbs, groups, names in self._by_resource.get(resource, ()):
                if (
                    (verbs is None or verb in verbs)
                    and (groups is None or group in groups)
                    and (names is None or name in names)
                ):
                    return True
        return False

    def allow_url(self, verb: str, path: str) -> bool:
        """Tell whether a rule permits a verb on a path that is no API object."""
        return any((verbs is None or verb in verbs) and _url_matches(url, path) for verbs, url in self._urls)


def question(attributes: Attributes) -> Callable[[RuleIndex], bool]:
    """Return the function that puts one request to a role."""
    verb = attributes.verb
    if not isinstance(attributes, ResourceAttributes):
        path = attributes.path
        return lambda rules: rules.allow_url(verb, path)
    resources = _resources(attributes)
    group, name = attributes.group, attributes.name
    return lambda rules: rules.allow_resource(verb, group, resources, name)


def _resources(attributes: ResourceAttributes) -> tuple[str, ...]:
    """Return every way in which a rule may write the requested resource."""
    if not attributes.subresource:
        return ("*", attributes.resource)
    return ("*", f"{attributes.resource}/{attributes.subresource}", f"*/{attributes.subresource}")


def _any_of(values: tuple[str, ...]) -> _AnyOf:
    return None if "*" in values else frozenset(values)


def _url_matches(url: str, path: str) -> bool:
    return url == path or (url.endswith("*") and path.startswith(url.rstrip("*")))
