"""A decision told in lines of text, for people.

Much of it was chosen by whoever sent the request, so nothing unprintable gets through to
the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from extauthz.decision import Decision
from extauthz.review import NonResourceAttributes, Review, qualified


def text(explained: Mapping[str, Any], decision: Decision) -> Iterator[str]:
    """Yield the lines that tell a decision and its grounds; `explained` is its JSON form."""
    return map(printable, _lines(explained, decision))


def _lines(explained: Mapping[str, Any], decision: Decision) -> Iterator[str]:
    yield f"{decision.outcome.upper()} {decision.status} {decision.reason}"
    yield f"  {decision.message}"
    yield ""
    if request := explained.get("request"):
        query = " ".join(f"{name}={value}" for name, value in request["query"].items())
        yield f"request   {request['method']} {request['path']} {query}".rstrip()
        yield from (f"fault     {fault}" for fault in request["faults"])
    if subject := decision.subject:
        yield f"identity  {subject.user} (groups: {', '.join(subject.groups)}; by {subject.authenticator})"
    yield f"rule      {decision.rule or 'none'}"
    for value in explained.get("values", ()):
        yield f"value     {value['attribute']} = {value['value']!r} from {value['source']}"
    yield from (f"review    {_review(review)}" for review in decision.reviews)
    yield from (f"header    set {name}: {value}" for name, value in decision.shown_headers())
    yield from (f"header    remove {name}" for name in decision.remove)


def _review(review: Review) -> str:
    asked = review.attributes
    if isinstance(asked, NonResourceAttributes):
        what = f"{asked.verb} {asked.path}"
    else:
        kind = qualified(asked.resource, asked.group, asked.subresource)
        scope = f"in {asked.namespace}" if asked.namespace else "in all namespaces"
        what = " ".join(filter(None, (asked.verb, kind, asked.name and repr(asked.name), scope)))
    answer = "yes" if review.allowed else "no"
    return f"{what}: {answer}" + (f" ({review.reason})" if review.reason else "")


def printable(line: str) -> str:
    """Return a line with what a terminal could take for a command written out."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in line
    )
