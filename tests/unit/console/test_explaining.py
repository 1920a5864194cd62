"""The form that explains a request becomes the question that `extauthz check` would ask."""

from __future__ import annotations

import pytest

from extauthz.console.explaining import MAX_CHARACTERS, Form, Mistaken
from extauthz.request import Request


def asked(**fields: str) -> tuple[Request, str | None, tuple[str, ...]]:
    """Return the question of a form."""
    question = Form.of({"url": "/x", **fields}).question(limit=1000)
    assert isinstance(question.request, Request)
    return question.request, question.user, question.groups


def test_a_user_is_believed() -> None:
    """With groups, whatever spaces stand around them."""
    request, user, groups = asked(url="https://k.example/runs?a=b", user=" bob ", groups="x, y,,")
    assert (request.host, request.path, user, groups) == ("k.example", "/runs", "bob", ("x", "y"))


def test_nobody_asks_where_nobody_is_named() -> None:
    """Then the answer is what somebody without a credential gets."""
    assert asked()[1] == ""


@pytest.mark.parametrize(
    "fields", [{"token": "Bearer a.b.c"}, {"token": " a.b.c "}, {"headers": "Authorization: Bearer a.b.c"}]
)
def test_a_token_proves_who_asks(fields: dict[str, str]) -> None:
    """As the request's own header."""
    request, user, _ = asked(**fields)
    assert user is None
    assert request.headers["authorization"] == "Bearer a.b.c"


def test_headers_and_body() -> None:
    """The browser's line ends are not the body's."""
    request, _, _ = asked(method="POST", headers="X-A: 1\r\n\r\nx-b:2", body="{\r\n}")
    assert (request.headers["x-a"], request.headers["x-b"]) == ("1", "2")
    assert request.body.content == b"{\n}"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"method": "BREW"}, "method"),
        ({"url": "runs"}, "url"),
        ({"user": "bob", "token": "a.b.c"}, "token"),
        ({"token": "not a token"}, "token"),
        ({"headers": "nothing"}, "headers"),
        ({"headers": ": x"}, "headers"),
    ],
)
def test_mistakes_name_their_field(fields: dict[str, str], field: str) -> None:
    """So that the form can say it there."""
    with pytest.raises(Mistaken) as caught:
        asked(**fields)
    assert caught.value.field == field


def test_fields_are_bounded_and_texts() -> None:
    """A file in place of a text is left out."""
    form = Form.of({"url": "x" * (MAX_CHARACTERS + 1), "body": object(), "unknown": "y"})
    assert (len(form.url), form.body) == (MAX_CHARACTERS, "")
