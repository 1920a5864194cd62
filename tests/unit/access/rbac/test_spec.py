"""Which SubjectAccessReviews are answered, and what malformed selectors lead to."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extauthz.access.rbac import spec
from extauthz.access.rbac.labels import is_key, is_value
from extauthz.review import NonResourceAttributes, ResourceAttributes
from tests.unit.access.rbac.cluster import DATA, Json

ROWS = yaml.safe_load((DATA / "specs.yaml").read_text())


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_spec_is_answered_or_refused_as_kube_apiserver_does(row: Json) -> None:
    """Each spec of the table is read, with the stated remark, or refused for the stated reason."""
    if "error" in row:
        with pytest.raises(ValueError, match=f"^{re.escape(row['error'])}$"):
            spec.read(row["spec"])
    else:
        assert spec.read(row["spec"]).evaluation_error == row.get("note", "")


def test_every_field_of_a_spec_is_read() -> None:
    """Subject and attributes carry exactly what the spec says, groups in their order."""
    names = ("verb", "group", "version", "resource", "subresource", "namespace", "name")
    question = spec.read(
        {
            "user": "u",
            "uid": "1",
            "groups": ["b", "a", "b"],
            "extra": {"scopes": ["x", "y"]},
            "resourceAttributes": {name: f"the {name}" for name in names},
        }
    )
    assert question.attributes == ResourceAttributes(**{name: f"the {name}" for name in names})
    assert (question.subject.user, question.subject.uid) == ("u", "1")
    assert (question.subject.groups, question.subject.extra) == (("b", "a", "b"), (("scopes", ("x", "y")),))
    other = spec.read({"user": "u", "nonResourceAttributes": {"verb": "get", "path": "/x"}})
    assert other.attributes == NonResourceAttributes("get", "/x")


GOOD = [
    *(
        " ",
        "a",
        "!a",
        " ! a ",
        "a=b",
        "a==b",
        "a!=b",
        "a=",
        "a!=",
        "a = b , c",
        "a in (b)",
        "a in(b,c)",
        "a notin ( b , c )",
    ),
    *("a in (b,)", "a in (,)", "a>1", "a < 5", "example.com/a=b", "a,!b,c in (d,e),f=g", "a=in", "x.y-z_w"),
]
BAD = [
    *("!", "!!a", "a b", "a=b=c", "a=!b", "=b", "in", "a in", "a in ()", "a in b", "a in (b", "a in b)", "a in ((b))"),
    *("a,", ",a", "a,,b", "a<b", "a>", "a<-1", "!a=b", "-a", "a=-", "/a", "a/b/c", "A.b/c d", "a!", "a inn (b)", "é"),
]


@pytest.mark.parametrize("raw", GOOD)
def test_a_label_selector_that_kubectl_takes_is_taken(raw: str) -> None:
    """Equality, set, existence and number conditions are understood."""
    assert spec.is_label_selector(raw)


@pytest.mark.parametrize("raw", BAD)
def test_a_label_selector_that_kubectl_refuses_is_malformed(raw: str) -> None:
    """Everything else is a parse error."""
    assert not spec.is_label_selector(raw)


@pytest.mark.parametrize(
    ("raw", "good"),
    [
        *((raw, True) for raw in ("a=b", "a=", "=b", ",", "a=b\\=c", "a!b=c", "a\\,b=c", "a\\=b")),
        *((raw, False) for raw in ("a", "a=b=c", "a=b\\", "a=b\\c", "a=b,c", "a\\,b")),
    ],
)
def test_a_field_selector_is_split_at_plain_commas_and_its_first_operator(raw: str, good: bool) -> None:
    """Values may contain commas and equal signs only behind a backslash."""
    asked = {"user": "u", "resourceAttributes": {"fieldSelector": {"rawSelector": raw}}}
    assert (spec.read(asked).evaluation_error == "") == good


@pytest.mark.parametrize(
    ("key", "good"),
    [
        *((key, True) for key in ("a", "a" * 63, "A_b.c-1", "a.b/c", f"{'a' * 253}/b")),
        *((key, False) for key in ("", "a" * 64, "a-", "A.b/c", "/c", "a.b/", f"{'a' * 254}/b")),
    ],
)
def test_a_label_key_is_a_qualified_name(key: str, good: bool) -> None:
    """A key has a name of 63 characters at most and perhaps a DNS subdomain before it."""
    assert is_key(key) == good


@pytest.mark.parametrize(
    ("value", "good"), [("", True), ("a", True), ("a" * 63, True), ("a" * 64, False), ("a b", False), ("-a", False)]
)
def test_a_label_value_may_be_empty(value: str, good: bool) -> None:
    """A value is empty or reads like the name of a key."""
    assert is_value(value) == good


MORE = ("labelSelector", "fieldSelector", "rawSelector", "requirements", "key", "operator", "values")
FIELDS = st.sampled_from(
    [
        "user",
        "groups",
        "extra",
        "uid",
        "resourceAttributes",
        "nonResourceAttributes",
        "verb",
        "path",
        "namespace",
        *MORE,
    ]
)
SCALARS = st.sampled_from([None, True, False, 0, -1, 0.5, "", "a", "get", "\ud800"])
# Of fixed depth: a recursive strategy draws what is too large again and again.
INNER = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(FIELDS, SCALARS, max_size=3)
JSON = INNER | st.lists(INNER, max_size=2) | st.dictionaries(FIELDS, INNER, max_size=4)


@given(st.dictionaries(FIELDS, JSON, max_size=5))
def test_any_json_is_read_or_refused(data: Json) -> None:
    """No JSON object makes the reader fail in any other way than by refusing it."""
    try:
        spec.read(data)
    except ValueError as error:
        assert str(error)  # noqa: PT017  # either way is right; failing otherwise is not
