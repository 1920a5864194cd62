"""SubjectAccessReview specs: which ones kube-apiserver answers, and what they ask.

RBAC takes no notice of field and label selectors. They are read all the same, since a
malformed one makes the server refuse the review or mention it in `evaluationError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from extauthz.access.rbac import fields, labels
from extauthz.access.rbac.fields import Object, Unacceptable
from extauthz.access.rbac.labels import Requirement
from extauthz.review import Attributes, NonResourceAttributes, ResourceAttributes
from extauthz.subject import Subject

_BETWEEN = re.compile(r",(?![^(]*\))")
_WORD = r"[^\s=!(),<>]+"
_TERM = re.compile(
    rf"\s*(?:!\s*(?P<absent>{_WORD})|(?P<key>{_WORD})(?:"
    rf"\s*(?:==?|!=)\s*(?P<value>{_WORD})?|\s*[<>]\s*(?P<number>[0-9]{{1,18}})"
    rf"|\s+(?:in|notin)\s*\((?P<values>[^=!()<>]*)\))?)\s*"
)
_FIELD = r"(?:[^\\,=]|\\[^=]|\\(?==))*?(?:!=|==|=)(?:[^\\,=]|\\[\\,=])*"
_FIELDS = re.compile(rf"(?:{_FIELD})?(?:,(?:{_FIELD})?)*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Question:
    """What a spec asks; `evaluation_error` belongs in the answer."""

    subject: Subject
    attributes: Attributes
    evaluation_error: str = ""


def read(spec: Object) -> Question:
    """Read the JSON form of a spec.

    Raises Undecodable (kube-apiserver: 400) and Unacceptable (422).
    """
    subject = _subject(spec)
    resource = fields.optional(spec, "resourceAttributes")
    other = fields.optional(spec, "nonResourceAttributes")
    if resource is not None and other is not None:
        raise Unacceptable("resourceAttributes and nonResourceAttributes exclude each other")
    if not (subject.user or subject.groups):
        raise Unacceptable("user or groups must be given")
    if other is not None:
        return Question(subject, NonResourceAttributes(fields.text(other, "verb"), fields.text(other, "path")))
    if resource is None:
        raise Unacceptable("resourceAttributes or nonResourceAttributes must be given")
    return Question(subject, _resource(resource), _selector_errors(resource))


def _subject(spec: Object) -> Subject:
    extra = fields.object_(spec, "extra")
    return Subject(
        user=fields.text(spec, "user"),
        groups=fields.texts(spec, "groups"),
        uid=fields.text(spec, "uid"),
        extra=tuple((name, fields.texts(extra, name)) for name in extra),
    )


def _resource(data: Object) -> ResourceAttributes:
    return ResourceAttributes(
        verb=fields.text(data, "verb"),
        group=fields.text(data, "group"),
        version=fields.text(data, "version"),
        resource=fields.text(data, "resource"),
        subresource=fields.text(data, "subresource"),
        namespace=fields.text(data, "namespace"),
        name=fields.text(data, "name"),
    )


def _selector_errors(attributes: Object) -> str:
    found = (_field_selector(attributes), _label_selector(attributes))
    return "; ".join(f"spec.resourceAttributes.{error} due to parse error" for error in found if error)


def _field_selector(attributes: Object) -> str:
    selector = fields.optional(attributes, "fieldSelector")
    if selector is None:
        return ""
    raw, requirements = _parts(selector, "fieldSelector")
    for key, operator, values in requirements:
        if not key:
            raise Unacceptable("fieldSelector: a requirement has no key")
        _check_count(operator, values)
    usable = [operator in labels.NEEDS_VALUES and len(values) == 1 for _, operator, values in requirements]
    if raw:
        usable = [_FIELDS.fullmatch(raw) is not None]
    return _ignored("fieldSelector", usable)


def _label_selector(attributes: Object) -> str:
    selector = fields.optional(attributes, "labelSelector")
    if selector is None:
        return ""
    raw, requirements = _parts(selector, "labelSelector")
    for key, operator, values in requirements:
        labels.check(Requirement(key, operator, frozenset(values)))
    usable = [operator in labels.OPERATORS for _, operator, _ in requirements]
    if raw:
        usable = [is_label_selector(raw)]
    return _ignored("labelSelector", usable)


def _parts(selector: Object, name: str) -> tuple[str, list[tuple[str, str, tuple[str, ...]]]]:
    raw = fields.text(selector, "rawSelector")
    requirements = [
        (fields.text(item, "key"), fields.text(item, "operator"), fields.texts(item, "values"))
        for item in fields.objects(selector, "requirements")
    ]
    if bool(raw) == bool(requirements):
        raise Unacceptable(f"{name} needs either rawSelector or requirements")
    return raw, requirements


def _check_count(operator: str, values: tuple[str, ...]) -> None:
    if (operator in labels.NEEDS_VALUES and not values) or (operator in labels.WITHOUT_VALUES and values):
        raise Unacceptable(f"fieldSelector: operator {operator} has the wrong number of values")


def _ignored(name: str, usable: list[bool]) -> str:
    if all(usable):
        return ""
    return f"{name} partially ignored" if any(usable) else f"{name} ignored"


def is_label_selector(raw: str) -> bool:
    """Tell whether text is a label selector as `kubectl -l` takes it."""
    return not raw.strip() or all(map(_is_term, _BETWEEN.split(raw)))


def _is_term(term: str) -> bool:
    match = _TERM.fullmatch(term)
    if not match:
        return False
    key = match["absent"] or match["key"]
    values = [value.strip() for value in (match["values"] or "").split(",")]
    if match["values"] is not None and values == [""]:
        return False
    return (
        key not in ("in", "notin") and labels.is_key(key) and all(map(labels.is_value, [match["value"] or "", *values]))
    )
