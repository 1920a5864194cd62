"""What the stub's servers hand to each other: a call as it stood on the wire, and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `path` and `query` are raw; header names are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def user(self) -> str:
        """Who the gateway says asks."""
        return self.headers.get("kubeflow-userid", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    location: str | None = None


class Wrong(Exception):
    """The call cannot be answered with 200; the message is for the caller."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def answer(content: Any, status: int = 200) -> Answer:
    """Return a JSON answer."""
    return Answer(status, json.dumps(content).encode())


def text(content: str, status: int = 200, content_type: str = "text/plain") -> Answer:
    """Return a text answer."""
    return Answer(status, content.encode(), content_type)
