"""Aggregated ClusterRoles, as the controller `clusterrole-aggregation` fills them.

The rules of a role with an aggregation rule become the union of the roles its selectors
match, itself left out. Rules written in it by hand stay only as long as nothing has ever
been matched: the controller takes the field over with its first union, and an empty
union afterwards empties the role. Objects that come from a live cluster (they have a uid
or a resourceVersion) are already the controller's work and are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from extauthz.access.rbac import labels
from extauthz.access.rbac.objects import Role, Rule


class ClusterRoles:
    """All ClusterRoles with their effective rules."""

    def __init__(self, roles: Iterable[Role] = ()) -> None:
        self._roles = {role.name: role for role in roles}
        self._rules = {name: role.rules for name, role in self._roles.items()}
        self._members = {name: self._select(role) for name, role in self._roles.items() if role.selectors}
        self._filled: set[str] = set()
        self._settle(set(self._members))

    def rules(self, name: str) -> tuple[Rule, ...] | None:
        """Return the effective rules of a role, or None if there is no such role."""
        return self._rules.get(name)

    def put(self, role: Role) -> set[str]:
        """Add or replace a role; return the names of all roles whose rules may differ now."""
        self._filled.discard(role.name)
        self._members.pop(role.name, None)
        self._roles[role.name] = role
        self._rules[role.name] = role.rules
        pending = self._reselect(role)
        if role.selectors:
            self._members[role.name] = self._select(role)
            pending.add(role.name)
        return self._settle(pending) | {role.name}

    def remove(self, name: str) -> set[str]:
        """Remove a role, if it is there; return the names of all roles whose rules may differ now."""
        self._filled.discard(name)
        self._members.pop(name, None)
        self._roles.pop(name, None)
        self._rules.pop(name, None)
        pending = self._selecting(name)
        for aggregated in pending:
            self._members[aggregated].discard(name)
        return self._settle(pending) | {name}

    def _select(self, aggregated: Role) -> set[str]:
        return {name for name, role in self._roles.items() if _selects(aggregated, role)}

    def _reselect(self, role: Role) -> set[str]:
        """Sort a changed role into the aggregated ones; return those that had or have it."""
        before = self._selecting(role.name)
        now = {name for name in self._members if _selects(self._roles[name], role)}
        for name in before - now:
            self._members[name].discard(role.name)
        for name in now:
            self._members[name].add(role.name)
        return before | now

    def _selecting(self, name: str) -> set[str]:
        return {aggregated for aggregated, members in self._members.items() if name in members}

    def _settle(self, pending: set[str]) -> set[str]:
        """Fill `pending` and all that depends on it; return the roles that were looked at."""
        seen = set(pending)
        for _ in range(len(self._members) + 1):
            pending = self._round(pending)
            seen |= pending
            if not pending:
                return seen
        # Only roles that feed each other in a ring with hand-written rules come here. The
        # controller would hand these rules round forever; we keep what enters the ring.
        ring = self._downstream(pending)
        self._rules.update(dict.fromkeys(ring, ()))
        seen |= ring
        while ring:
            ring = self._round(ring)
        return seen

    def _round(self, pending: set[str]) -> set[str]:
        """Fill each role once; return the roles that must be filled again."""
        changed = {name for name in sorted(pending) if self._fill(name)}
        return {aggregated for name in changed for aggregated in self._selecting(name)}

    def _fill(self, name: str) -> bool:
        members = sorted(self._members[name])
        union = tuple(dict.fromkeys(rule for member in members for rule in self._rules[member]))
        if not union and name not in self._filled:
            return False
        self._filled.add(name)
        changed = set(union) != set(self._rules[name])
        self._rules[name] = union
        return changed

    def _downstream(self, names: set[str]) -> set[str]:
        reached: set[str] = set()
        while names:
            reached |= names
            names = {aggregated for name in names for aggregated in self._selecting(name)} - reached
        return reached


def _selects(aggregated: Role, role: Role) -> bool:
    if aggregated.name == role.name:
        return False
    return any(labels.matches(selector, role.labels) for selector in aggregated.selectors or ())
