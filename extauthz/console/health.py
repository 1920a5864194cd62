"""What the parts say of themselves, as short tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from extauthz.access.authority import Authority, Cluster
from extauthz.access.watch.follower import State
from extauthz.identity import Authenticators
from extauthz.identity.store import KeyStore
from extauthz.lookup.kfp import KfpLookup
from extauthz.settings.identity import Identity, JwtIssuer

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its name, how it is (`good`, `late` or `bad`), and facts about it."""

    name: str
    state: str
    word: str
    facts: Facts


def parts(
    identity: Identity, authenticator: Authenticators, authority: Authority, lookup: KfpLookup | None
) -> list[Part]:
    """Return how all parts are."""
    found = [_issuer(issuer, store) for issuer, store in zip(identity.jwt, authenticator.tokens.stores, strict=True)]
    if isinstance(authority, Cluster):
        found += _cluster(authority)
    else:
        found.append(Part("Rights", "good", "embedded", (("Evaluated from", "RBAC manifests, in this process"),)))
    return [*found, *([_lookup(lookup)] if lookup else [])]


def _issuer(issuer: JwtIssuer, store: KeyStore) -> Part:
    problem, keys = store.problem, store.latest.keys if store.latest else ()
    facts = [
        ("Token in", issuer.header),
        ("Audiences", ", ".join(issuer.audiences)),
        ("Algorithms", ", ".join(issuer.algorithms)),
        ("Fetches", f"{_number(store.fetched)}, and {_number(store.failed)} that failed"),
        ("Keys", ", ".join(key.id or "without id" for key in keys) or "none yet"),
    ]
    if keys:
        facts.append(("Serve without another fetch for", f"{max(store.serves_for, 0):.0f} s"))
    if problem:
        facts.append(("Problem", problem))
    return Part(
        f"Issuer {issuer.issuer}", "bad" if problem else "good", "no keys" if problem else "keys present", facts
    )


def _cluster(cluster: Cluster) -> Iterator[Part]:
    if not cluster.started:
        yield Part("API server", "bad", "not connected", ())
        return
    breaker, counts = cluster.reviews.breaker.state, cluster.reviews.counts
    yield Part(
        "SubjectAccessReviews",
        "good" if breaker == "closed" else "bad",
        f"circuit breaker {breaker.replace('_', ' ')}",
        (
            ("Answered", _number(counts.answered)),
            ("Failed", _number(counts.failed)),
            ("Asked again", _number(counts.retried)),
            ("Under way", _number(cluster.reviews.limiter.running)),
            ("Waiting", _number(cluster.reviews.limiter.waiting)),
        ),
    )
    cache, kept = cluster.cached.counts, cluster.cached.kept
    asked = cache.hits + cache.joined + cache.misses
    yield Part(
        "Review cache",
        "good",
        f"{cache.hits / asked:.1%} hits" if asked else "not asked yet",
        (
            ("Hits", _number(cache.hits)),
            ("Joined a review under way", _number(cache.joined)),
            ("Misses", _number(cache.misses)),
            ("Old allows in an outage", _number(cache.stale)),
            ("Kept answers", _number(len(kept))),
            ("Memory", f"{kept.bytes / 1024:.0f} KiB"),
        ),
    )
    yield _watch(cluster)


def _watch(cluster: Cluster) -> Part:
    states, counts = cluster.watch.states, cluster.watch.counts
    synced = all(state is State.SYNCED for state in states.values())
    late = all(state in (State.SYNCED, State.BEHIND) for state in states.values())
    facts = [*((name, str(state)) for name, state in states.items()), ("Events", _number(counts.lines))]
    facts += [("Failures", _number(counts.failures)), *(("Problem", problem) for problem in cluster.watch.problems())]
    return Part(
        "RBAC watch", "good" if synced else "late" if late else "bad", "synced" if synced else "not synced", facts
    )


def _lookup(lookup: KfpLookup) -> Part:
    counts = lookup.counts
    facts = (
        ("From memory", _number(counts.hits)),
        ("Joined a lookup under way", _number(counts.joined)),
        ("Asked", _number(counts.misses)),
        ("Calls", _number(counts.calls)),
    )
    return Part("Pipelines lookup", "good", "on", facts)


def _number(value: float) -> str:
    return f"{value:,}"
