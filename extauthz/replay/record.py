"""One line of the audit log as what can be asked again: the request, who asked, and what is known beside.

The form of a line is that of `extauthz.observe.audit.record`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Required

import orjson
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from extauthz.observe.audit.mask import MASK
from extauthz.observe.audit.record import ReviewRecord, UserRecord, ValueRecord
from extauthz.request import Body, Request
from extauthz.request import read as read_request
from extauthz.request.faults import Fault
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject

_KEYED = ("method", "host", "target", "user", "decision", "reason", "values", "reviews", "truncated")
"""The members that a decision may depend on, or that tell what is known of it."""

_DECISIVE = ("host", "target")
"""Those of which a part says nothing of the whole. Without any other, what rests on it is not known anyway."""

_AGAIN: Mapping[str, Mapping[str, str]] = {
    Fault.METHOD_OVERRIDE: {"x-http-method-override": "GET"},
    Fault.TARGET_MISMATCH: {":path": "*"},
    Fault.FORM_BODY: {"content-type": "application/x-www-form-urlencoded"},
}
"""Headers that bring back the faults that do not stand in the target."""


class _Members(TypedDict, total=False):
    """The members that are read, in the form that `AuditRecord` gives them; others may be left out or added."""

    method: str
    host: str
    target: Required[str]
    user: UserRecord
    authenticator: str
    decision: Required[str]
    reason: str
    values: list[ValueRecord]
    reviews: list[ReviewRecord]
    truncated: list[str]


_members: TypeAdapter[_Members] = TypeAdapter(_Members)


class Unreadable(ValueError):
    """A line is no record of a decision."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a record tells. `values` are by source, without a question mark; a masked one is left out.

    `subject` is None where nobody was known: then `anonymous` says whether that was found out.
    """

    request: Request
    subject: Subject | None
    anonymous: bool
    values: Mapping[str, str | None]
    reviews: Mapping[Attributes, bool]
    cut: str = ""
    """A member that is too long for the record, and without which nothing can be decided."""


def read(line: bytes) -> dict[str, Any]:
    """Parse a line. Raises Unreadable."""
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("kind") != "Decision":
        raise Unreadable("not a record of a decision")
    if data.get("apiVersion") != "audit.extauthz.dev/v1":
        raise Unreadable(f"apiVersion {data.get('apiVersion')!r} is not known")
    return data


def key(data: Mapping[str, Any]) -> bytes:
    """Return what is the same for two records that every policy decides alike. Raises Unreadable."""
    try:
        return orjson.dumps([data.get(member) for member in _KEYED])
    except orjson.JSONEncodeError as error:  # more can be read in it than written: lists in lists
        raise Unreadable(f"not in the form of a record: {error}") from None


def recorded(data: Mapping[str, Any], cookies: Collection[str] = ()) -> Recorded | None:
    """Return what a record tells; None where the check held no request. Raises Unreadable.

    Cookies are not recorded: those of the names in `cookies` are taken to have been sent.
    """
    if "method" not in data:
        return None
    try:
        _members.validate_python(data, strict=True, extra="ignore")
        values = {item["source"]: item.get("value") for item in data.get("values", ()) if item.get("value") != MASK}
        return Recorded(
            request=_request(data, values, cookies),
            subject=_subject(data, values),
            anonymous=data["decision"] == "unauthenticated",
            values=values,
            reviews={_attributes(item): item["allowed"] for item in data.get("reviews", ())},
            cut=next((member for member in _DECISIVE if member in data.get("truncated", ())), ""),
        )
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise Unreadable(f"not in the form of a record: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise Unreadable(f"not in the form of a record: {error!r}") from None


def _request(data: Mapping[str, Any], values: Mapping[str, str | None], cookies: Collection[str]) -> Request:
    headers = dict(_AGAIN.get(data.get("reason", ""), {}))
    if cookies:
        headers["cookie"] = "; ".join(f"{name}=" for name in cookies)
    headers |= {text.removeprefix("header:"): value for text, value in values.items() if value and _is(text, "header")}
    return read_request(
        method=data["method"],
        target=data["target"],
        headers=headers,
        host=data.get("host", ""),
        body=Body(orjson.dumps(_document(values))),
    )


def _document(values: Mapping[str, str | None]) -> dict[str, Any]:
    """Return a body that has the recorded values where they were; see `Judge` for what it can stand for."""
    document: dict[str, Any] = {}
    for text, value in values.items():
        if value is not None and is_plain_pointer(text):
            *above, last = text.removeprefix("body:/").split("/")
            place = document
            for token in above:
                place = place.setdefault(token, {})
            place[last] = value
    return document


def is_plain_pointer(text: str) -> bool:
    """Whether a source is a member of the body that leads through no list and needs no unescaping."""
    return text.startswith("body:/") and not any(character in text for character in "{}~")


def _subject(data: Mapping[str, Any], values: Mapping[str, str | None]) -> Subject | None:
    user = data.get("user")
    if user is None:
        return None
    return Subject(
        user=user["username"],
        groups=tuple(user.get("groups", ())),
        uid=user.get("uid", ""),
        extra=tuple((name, tuple(texts)) for name, texts in user.get("extra", {}).items()),
        authenticator=data.get("authenticator", ""),
        claims=_claims(values),
    )


def _claims(values: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the claims that a rule read as text, and those that its condition read in their JSON form."""
    texts = {text.removeprefix("claim:"): value for text, value in values.items() if value and _is(text, "claim")}
    told = {text: value for text, value in values.items() if value and _is(text, "claims")}
    return texts | {text.removeprefix("claims:"): orjson.loads(value) for text, value in told.items()}


def _attributes(item: Mapping[str, Any]) -> Attributes:
    if "path" in item:
        return NonResourceAttributes(item["verb"], item["path"])
    names = ("verb", "group", "version", "resource", "subresource", "namespace", "name")
    return ResourceAttributes(**{name: item[name] for name in names if name in item})


def _is(text: str, kind: str) -> bool:
    return text.startswith(f"{kind}:")
