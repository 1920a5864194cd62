"""Questions and answers as JSON lines, for the offline reviews of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from extauthz.access.rbac import fields, spec
from extauthz.access.rbac.evaluator import RbacAuthorizer

Answer = dict[str, Any]
"""`id`, `allowed`, `reason` and perhaps `evaluationError`; or `id`, `line` and `error`."""


def answers(authorizer: RbacAuthorizer, lines: Iterable[bytes]) -> Iterator[Answer]:
    """Yield one answer per line of the form `{"id": …, "spec": …}`; blank lines are skipped.

    A line that kube-apiserver would refuse gets an answer with `error`, and the rest goes on.
    """
    for number, line in enumerate(lines, 1):
        if not line.isspace():
            yield _answer(authorizer, line, number)


def _answer(authorizer: RbacAuthorizer, line: bytes, number: int) -> Answer:
    identifier = None
    try:
        data = orjson.loads(line)
        if not isinstance(data, dict):
            raise fields.Undecodable(f"expected an object, found {fields.kind_of(data)}")
        identifier = data.get("id")
        question = spec.read(fields.object_(data, "spec"))
    except ValueError as error:
        return {"id": identifier, "line": number, "error": str(error)}
    review = authorizer.review(question.subject, question.attributes)
    answer: Answer = {"id": identifier, "allowed": review.allowed, "reason": review.reason}
    if question.evaluation_error:
        answer["evaluationError"] = question.evaluation_error
    return answer
