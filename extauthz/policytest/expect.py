"""What a test expects of a decision, and what is wrong with the one that fell."""

from __future__ import annotations

from collections.abc import Iterator

from extauthz.decision import Decision
from extauthz.policytest.model import CaseModel, ReviewModel
from extauthz.review import NonResourceAttributes, Review, qualified


def problem(case: CaseModel, decision: Decision, *, passes: bool) -> str:
    """Say what is wrong, or nothing."""
    return next(_problems(case, decision, passes=passes), "")


def _problems(case: CaseModel, decision: Decision, *, passes: bool) -> Iterator[str]:
    if decision.allowed is not passes:
        yield f"must {'pass' if passes else 'be refused'}"
    decided = decision.rule.name if decision.rule else None
    if case.rule not in (None, decided):
        yield f"must be decided by rule {case.rule!r}"
    if case.reviews is not None and decision.subject:
        yield from _reviews(case.reviews, decision)
    if decision.allowed:
        yield from _headers(case.headers, decision)


def _reviews(expected: list[ReviewModel], decision: Decision) -> Iterator[str]:
    wanted, asked = set(map(_wanted, expected)), set(map(_asked, decision.reviews))
    yield from (f"must be asked for the right to {text}" for text in sorted(wanted - asked))
    yield from (f"must not be asked for the right to {text}" for text in sorted(asked - wanted))


def _headers(expected: dict[str, str | None], decision: Decision) -> Iterator[str]:
    headers: dict[str, str | None] = dict(decision.headers) | dict.fromkeys(decision.remove)
    for name, value in expected.items():
        if name not in headers:
            yield f"must {'remove' if value is None else 'set'} the header {name}"
        elif headers[name] != value:
            told = "is removed" if headers[name] is None else f"is {headers[name]!r}"
            yield f"must {'remove' if value is None else f'set to {value!r}'} the header {name}, which {told}"


def _wanted(model: ReviewModel) -> str:
    return _right(model.verb, model.group, model.resource, model.subresource, model.namespace, model.name, model.path)


def _asked(review: Review) -> str:
    asked = review.attributes
    if isinstance(asked, NonResourceAttributes):
        return _right(asked.verb, "", "", "", "", "", asked.path)
    return _right(asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace, asked.name, "")


def _right(verb: str, group: str, resource: str, subresource: str, namespace: str, name: str, path: str) -> str:
    """Say a right in one way, so that it can be compared and told."""
    if path:
        return f"{verb} {path}"
    kind = qualified(resource, group, subresource)
    scope = f"in {namespace}" if namespace else "in all namespaces"
    return " ".join(filter(None, (verb, kind, repr(name) if name else "", scope)))
