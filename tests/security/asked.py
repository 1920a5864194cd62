"""The security cases that are one request: what is sent, and by whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.security.table import cases

WITH_REQUEST: list[dict[str, Any]] = [case for case in cases() if "request" in case["input"]]

_LONG: dict[str, Callable[[str], str]] = {
    "path-042": lambda target: "/" + "a" * 65536,
    "query-009": lambda target: target.partition("?")[0] + "?" + "&".join(["a=1"] * 100_000),
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as a case describes it. `named` is whether alice's credential goes with it."""

    method: str
    target: str
    headers: dict[str, str]
    named: bool


def sent(case: dict[str, Any]) -> Sent:
    """Return the request of a case; one that its text only describes is made at its full length."""
    asked = case["input"]["request"]
    target = _LONG.get(case["id"], str)(asked["path"])
    headers = {name.lower(): value for name, value in asked.get("headers", {}).items()}
    return Sent(asked["method"], target, headers, asked.get("identity") != "anonymous")
