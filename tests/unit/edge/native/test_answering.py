"""What is kept of an allow: nothing that belongs to one request only."""

from __future__ import annotations

from extauthz.decision import Decision
from extauthz.edge.asked import Asked
from extauthz.edge.native import answering
from extauthz.edge.native.answering import Answering
from extauthz.edge.native.memory import FieldKeys
from extauthz.request import Request, read
from extauthz.subject import Subject
from tests.cases import gateway


class Sessions:
    """Believes the header `user`; the session `fresh` is prolonged with a new cookie each time."""

    def __init__(self) -> None:
        self.cookies = 0

    def authenticate(self, request: Request) -> Subject:
        user = request.headers["user"]
        self.cookies += 1
        cookies = (f"session={user}-{self.cookies}",) if "fresh" in request.headers else ()
        return Subject.authenticated(user, set_cookies=cookies)


def asking(headers: dict[str, str]) -> Asked:
    """Return what is asked with these headers; `target` is the target."""
    return Asked("GET", headers.get("target", "/x"), headers)


def written() -> tuple[Answering[Asked, object], list[Decision]]:
    """Return an Answering that answers with the decision's own words, and the decisions that were written."""
    decisions: list[Decision] = []

    def render(decision: Decision, request: Request | None) -> object:
        decisions.append(decision)
        return decision.status, decision.headers, decision.cookies

    def ask(asked: Asked) -> Request:
        return read(method=asked.method, target=asked.target, headers=asked.headers)

    return Answering(gateway(authenticator=Sessions()), keys=FieldKeys(), read=ask, render=render), decisions


def test_the_same_allow_is_written_once() -> None:
    """For each user."""
    checks, decisions = written()
    answers = [checks.answer(asking({"user": user})) for user in ("ann", "ben", "ann", "ben")]
    assert answers[0] == answers[2] != answers[1] == answers[3]
    assert len(decisions) == 2


def test_a_cookie_is_never_given_twice() -> None:
    """A session belongs to the request that prolonged it."""
    checks, _ = written()
    answers = [checks.answer(asking({"user": "ann", **more})) for more in ({}, {"fresh": "1"}, {}, {"fresh": "1"})]
    assert [answer[2] for answer in answers if isinstance(answer, tuple)] == [
        (),
        ("session=ann-2",),
        (),
        ("session=ann-4",),
    ]


def test_a_refusal_is_written_each_time() -> None:
    """It names its request."""
    checks, decisions = written()
    for _ in range(2):
        checks.answer(asking({"user": "ann", "target": "/unknown"}))
    assert len(decisions) == 2


def test_what_is_kept_is_bounded() -> None:
    """In number, and each in size."""
    checks, decisions = written()
    for number in range(answering.MAX_PREPARED + 10):
        checks.answer(asking({"user": f"user-{number}"}))
    assert len(checks._prepared) <= answering.MAX_PREPARED
    decisions.clear()
    for _ in range(2):
        checks.answer(asking({"user": "x" * (answering.MAX_PREPARED_CHARACTERS + 1)}))
    assert len(decisions) == 2
