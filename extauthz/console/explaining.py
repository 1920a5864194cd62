"""The form that explains a request: from its fields to a question, as `extauthz check` asks it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from extauthz.console.guard import pasted
from extauthz.explain import Question, request_of
from extauthz.request import METHODS

MAX_CHARACTERS = 256 * 1024


class Mistaken(ValueError):
    """The form cannot be read; the message says why, and `field` where."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Form:
    """What somebody filled in."""

    method: str = "GET"
    url: str = ""
    user: str = ""
    groups: str = ""
    token: str = ""
    headers: str = ""
    body: str = ""

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Form:
        """Read the fields that are there."""
        texts = {field.name: given.get(field.name) for field in fields(cls)}
        return cls(**{name: text[:MAX_CHARACTERS] for name, text in texts.items() if isinstance(text, str) and text})

    def question(self, *, limit: int) -> Question:
        """Return what is asked; `limit` is Envoy's buffer for bodies, in bytes. Raises Mistaken."""
        if self.method not in METHODS:
            raise Mistaken("method", "Choose a method.")
        if not re.match(r"/|https?://", self.url):
            raise Mistaken("url", "Give a path that starts with a slash, or a whole URL.")
        if self.user and self.token:
            raise Mistaken("token", "Give a user or a token, not both.")
        headers = _headers(self.headers)
        if self.token:
            token = pasted(self.token)
            if not token:
                raise Mistaken("token", "This is no token.")
            headers.append(("authorization", f"Bearer {token}"))
        content = self.body.replace("\r\n", "\n").encode() if self.body else None
        request = request_of(self.method, self.url.strip(), headers, content, limit=limit)
        proven = self.token or any(name.lower() in ("authorization", "cookie") for name, _ in headers)
        user = None if proven and not self.user else self.user.strip()
        return Question(request, user, tuple(filter(None, map(str.strip, self.groups.split(",")))))


def _headers(text: str) -> list[tuple[str, str]]:
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    if any(not colon or not name.strip() for name, colon, _ in pairs):
        raise Mistaken("headers", "Write one header a line, as 'name: value'.")
    return [(name.strip(), value.strip()) for name, _, value in pairs]
