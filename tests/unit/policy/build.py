"""Policies for tests: written as YAML files, loaded as the service loads them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extauthz import policy
from extauthz.errors import ConfigurationError, Problem, Refused
from extauthz.lookup.artifact import namespace_of_key
from extauthz.policy import Policy, Rule
from extauthz.request import EMPTY_BODY, Body, Request, read
from extauthz.review import Attributes
from extauthz.subject import Subject

KEYS = {"artifact": namespace_of_key}
HEAD = "apiVersion: extauthz.dev/v1\nkind: Policy\n"


def load(text: str) -> Policy:
    """Load the text of one policy file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "policy.yaml")
        file.write_text(text)
        return policy.load([file], KEYS)


def problems(text: str) -> list[Problem]:
    """Return what is wrong with the text of one policy file; empty when nothing is."""
    try:
        load(text)
    except ConfigurationError as error:
        return list(error.problems)
    return []


def rules(*given: Mapping[str, Any]) -> Policy:
    """Load rules given as data; names are made up where they are missing."""
    named = [{"name": f"rule-{index}", **rule} for index, rule in enumerate(given)]
    return load(HEAD + "rules: " + json.dumps(named))


def rule(*checks: Mapping[str, Any], path: str = "/x", **rest: Any) -> Rule:
    """Load one rule with these checks."""
    access = {"access": list(checks)} if checks else {}
    (only,) = rules({"match": {"path": path}, **access, **rest}).rules
    return only


def check(**fields: Any) -> dict[str, Any]:
    """Return a resource check, with what is not said made up."""
    return {"verb": "get", "group": "g", "resource": "things", **fields}


def ask(
    target: str = "/x",
    *,
    method: str = "GET",
    host: str = "",
    body: str | bytes | Body = EMPTY_BODY,
    **headers: str,
) -> Request:
    """Read a request; underscores in header names stand for hyphens."""
    content = body.encode() if isinstance(body, str) else body
    shown = content if isinstance(content, Body) else Body(content)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read(method=method, target=target, headers=named, host=host, body=shown)


def outcome(rule: Rule, request: Request, subject: Subject | None = None) -> tuple[Attributes, ...] | str:
    """Return the attributes that a rule reads, or the reason code of its refusal."""
    try:
        return tuple(asked.attributes for asked in rule.asked(request, subject))
    except Refused as error:
        return str(error.reason)


def namespace(rule: Rule, request: Request, subject: Subject | None = None) -> str:
    """Return `=` and the namespace that a rule's one check reads, or the reason code of its refusal."""
    found = outcome(rule, request, subject)
    return found if isinstance(found, str) else "=" + getattr(found[0], "namespace", "")
