"""A JSON body counts only where every parser reads the same value."""

from __future__ import annotations

import json

import pytest

from extauthz.request import Body
from tests.unit.policy.build import ask, check, namespace, rule

TOP = rule(check(namespace="body:/name_space"))
DEEP = rule(check(namespace="body:/a_b/0/name~1s~0p"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"name_space": "t"}', "=t"),
        (b'{"nameSpace": "t"}', "=t"),
        (b' \n{"name_space":\t"t"} \r\n', "=t"),
        (b'{"\\u006eame_space": "\\u0074"}', "=t"),
        (b'{"other": [1, {"deep": null}], "name_space": "t"}', "=t"),
        (b"", "namespace_missing"),
        (b"{}", "namespace_missing"),
        (b'{"name_space": null}', "namespace_missing"),
        (b'{"name_space": ""}', "namespace_missing"),
        (b'{"name_space": 5}', "body_value_not_text"),
        (b'{"name_space": true}', "body_value_not_text"),
        (b'{"name_space": ["t"]}', "body_value_not_text"),
        (b'{"name_space": {"a": "t"}}', "body_value_not_text"),
        (b"[]", "body_not_object"),
        (b"null", "body_not_object"),
        (b'"{}"', "body_not_object"),
        (b"5", "body_not_object"),
        (b" ", "body_not_json"),
        (b"{", "body_not_json"),
        (b"{'name_space': 't'}", "body_not_json"),
        (b'{"name_space": "t",}', "body_not_json"),
        (b'{"name_space": "t"}{}', "body_not_json"),
        (b'{"name_space": "t"} x', "body_not_json"),
        (b'{"name_space": "t"}\x00', "body_not_json"),
        (b'{"name_space": "t\n"}', "body_not_json"),
        (b'{"name_space": "t" /* c */}', "body_not_json"),
        (b'{"name_space": "t", "x": NaN}', "body_not_json"),
        (b'{"name_space": "t", "x": -Infinity}', "body_not_json"),
        (b'{"name_space": "t", "x": 01}', "body_not_json"),
        (b'{"name_space": "t", "x": ' + b"9" * 5000 + b"}", "body_not_json"),
        (b'{"name_space": "t", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "body_not_json"),
        (b'{"name_space": "t", "x": ' + b'{"a":' * 50_000, "body_not_json"),
        (b'{"name_space": "t", "x": ' + b"[" * 127 + b"]" * 127 + b"}", "=t"),
        (b'{"name_space": "t", "x": ' + b"[" * 128 + b"]" * 128 + b"}", "body_too_deep"),
        (b'{"name_space": "t", "x": ' + b'{"a":' * 127 + b"[]" + b"}" * 128, "body_too_deep"),
        (b'{"name_space": "t", "x": [' + b"[]," * 200 + b"{}]}", "=t"),
        (b"name_space=t", "body_not_json"),
        (b'\xef\xbb\xbf{"name_space": "t"}', "body_not_json"),
        ('{"name_space": "t"}'.encode("utf-16"), "body_invalid_utf8"),
        ('{"name_space": "t"}'.encode("utf-16-le"), "body_not_json"),
        ('{"name_space": "t"}'.encode("utf-32-le"), "body_not_json"),
        (b'{"name_space": "t", "x": "\xff"}', "body_invalid_utf8"),
        (b'{"name_space": "t", "x": "\xed\xa0\x80"}', "body_invalid_utf8"),
        (b'{"name_space": "t\\ud800"}', "value_invalid"),
        (b'{"name_space": "t\\u0000"}', "value_invalid"),
        (b'{"name_space": "t", "name_space": "u"}', "body_duplicate_name"),
        (b'{"name_space": "t", "name_space": "t"}', "body_duplicate_name"),
        (b'{"name_space": "t", "n\\u0061me_space": "u"}', "body_duplicate_name"),
        (b'{"name_space": "t", "x": [{"y": {"z": 1, "z": 2}}]}', "body_duplicate_name"),
        (b'{"name_space": "t", "nameSpace": "u"}', "body_spelling"),
        (b'{"name_space": "t", "namespace": "u"}', "body_spelling"),
        (b'{"name_space": "t", "NAME_SPACE": "u"}', "body_spelling"),
        (b'{"name_space": "t", "name_space_": "u"}', "body_spelling"),
        ('{"name_space": "t", "name_\u017fpace": "u"}'.encode(), "body_spelling"),
        (b'{"name_space": "t", "name_\\u017fpace": "u"}', "body_spelling"),
        (b'{"Name_space": "t"}', "body_spelling"),
        (b'{"namespace": "t"}', "body_spelling"),
    ],
)
def test_top_level_member(content: bytes, expected: str) -> None:
    """One member, one spelling, one value, or a refusal that says why."""
    assert namespace(TOP, ask(method="POST", body=content, content_type="application/json")) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a_b": [{"name/s~p": "t"}]}, "=t"),
        ({"aB": [{"name/s~p": "t"}]}, "=t"),
        ({"a_b": {"0": {"name/s~p": "t"}}}, "=t"),
        ({"a_b": []}, "namespace_missing"),
        ({"a_b": None}, "namespace_missing"),
        ({"a_b": [{}]}, "namespace_missing"),
        ({"a_b": "text"}, "body_not_object"),
        ({"a_b": [5]}, "body_not_object"),
        ({"a_b": [{"name/s~p": "t"}], "aB": []}, "body_spelling"),
        ({"a_b": [{"name/s~p": "t", "NAME/s~p": "u"}]}, "body_spelling"),
    ],
)
def test_nested_member(value: object, expected: str) -> None:
    """Every step of a pointer is as strict as the first, and array items go by their index."""
    assert namespace(DEEP, ask(method="POST", body=json.dumps(value))) == expected


def test_a_name_is_no_index() -> None:
    """A pointer that names a member finds none in an array."""
    assert namespace(rule(check(namespace="body:/a/b")), ask(body='{"a": ["t"]}')) == "namespace_missing"
    assert namespace(rule(check(namespace="body:/a/\u0661")), ask(body='{"a": ["s", "t"]}')) == "namespace_missing"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "=t"),
        ({"content_type": "application/json"}, "=t"),
        ({"content_type": "text/plain"}, "=t"),
        ({"content_type": "application/json; charset=utf-8"}, "=t"),
        ({"content_type": 'application/json; charset = "UTF-8" ; x=y'}, "=t"),
        ({"content_type": "application/json; charset=utf8"}, "=t"),
        ({"content_type": "application/json; charset=utf-16"}, "body_charset"),
        ({"content_type": "application/json; charset=utf-8-sig"}, "body_charset"),
        ({"content_type": "application/json; charset="}, "body_charset"),
        ({"content_type": "application/json; charset=utf-8, text/json; charset=utf-16"}, "body_charset"),
        ({"content_type": "application/json; charset=utf-7; charset=utf-8"}, "body_charset"),
        ({"content_encoding": "identity"}, "=t"),
        ({"content_encoding": "gzip"}, "body_encoded"),
        ({"content_encoding": "identity, gzip"}, "body_encoded"),
        ({"content_encoding": ""}, "body_encoded"),
    ],
)
def test_headers_that_say_how_to_read_the_body(headers: dict[str, str], expected: str) -> None:
    """Only plain UTF-8 is read."""
    assert namespace(TOP, ask(method="POST", body='{"name_space": "t"}', **headers)) == expected


@pytest.mark.parametrize("problem", ["body_truncated", "body_not_shown"])
def test_a_body_that_was_not_shown_whole(problem: str) -> None:
    """The edge's reason becomes the refusal."""
    assert namespace(TOP, ask(method="POST", body=Body(None, problem))) == problem
