"""What differs from one installation to the next: named in a policy, said again in the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from extauthz import policy
from extauthz.errors import ConfigurationError, Refused
from extauthz.policy import Policy, Rule
from extauthz.policy.rule import Withheld
from extauthz.policy.values import Values
from tests.cases import KEYS, LOOKUPS
from tests.unit.policy.build import ask

HEAD = "apiVersion: extauthz.dev/v1\nkind: Policy\n"
VALUES = "values: {buckets: [one, two], home: kubeflow}\n"
RULES = """\
rules:
  - name: files
    match: {path: "/files/{bucket}"}
    require: [{source: "path:bucket", oneOf: "value:buckets"}]
    access: [{verb: get, resource: files, namespace: "value:home"}]
  - name: list
    match: {path: /list}
    access: [{verb: list, resource: files, namespace: "query:ns", absentNamespace: "value:home"}]
"""


def load(folder: Path, *texts: str, values: Values | None = None) -> Policy:
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(HEAD + text)
    return policy.load([folder], KEYS, LOOKUPS, values=values or {})


def problems(folder: Path, *texts: str, values: Values | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, *texts, values=values)
    return [f"{found.line}: {found.message} / {found.hint}" for found in caught.value.problems]


def reads(loaded: Policy, target: str) -> str:
    """Return the namespace that a request is reviewed in, or why it is refused."""
    request = ask(target)
    rule = loaded.find(request)
    assert isinstance(rule, Rule)
    try:
        (asked,) = rule.asked(request, None)
    except Refused as error:
        return error.reason
    return str(getattr(asked.attributes, "namespace", ""))


def test_a_value_stands_where_it_is_named(tmp_path: Path) -> None:
    """As a namespace, as what an absent one means, and as a list of what is served."""
    loaded = load(tmp_path, VALUES + RULES)
    assert reads(loaded, "/files/two") == reads(loaded, "/list") == "kubeflow"
    assert reads(loaded, "/files/three") == "value_not_served"


def test_the_settings_replace_it_in_every_file(tmp_path: Path) -> None:
    """Files that name the same value follow together; the others stay."""
    other = (
        "values: {home: kubeflow}\nrules:\n  - {name: more, match: {path: /more}, access: [{verb: get, resource: r, "
    )
    loaded = load(tmp_path, VALUES + RULES, f"{other}namespace: 'value:home'}}]}}\n", values={"home": "elsewhere"})
    assert reads(loaded, "/files/one") == reads(loaded, "/list") == reads(loaded, "/more") == "elsewhere"
    assert reads(loaded, "/files/three") == "value_not_served"


def test_what_is_withheld_can_be_a_value(tmp_path: Path) -> None:
    """Headers and cookies that the upstream must not see, for all rules at once."""
    rules = (
        "rules:\n- {name: a, match: {path: /a}, allow: public, removeHeaders: 'value:h', removeCookies: 'value:c'}\n"
    )
    loaded = load(tmp_path, "values: {h: [x-token], c: [sid]}\n" + rules, values={"h": ["authorization"]})
    (rule,) = loaded.rules
    assert rule.withheld == Withheld(("authorization",), ("sid",))
    for settings, expected in (
        ({"h": ["Authorization"]}, "5: removeHeaders: 'Authorization' cannot be a name here"),
        ({"c": ["a;b"]}, "5: removeCookies: 'a;b' cannot be a name here"),
    ):
        (found,) = problems(tmp_path, "values: {h: [x-token], c: [sid]}\n" + rules, values=settings)
        assert expected in found
    assert "has no value 'h'" in problems(tmp_path, "values: {c: [sid]}\n" + rules)[0]


def test_no_request_names_a_value(tmp_path: Path) -> None:
    """The words of the policy are no words of a client."""
    assert reads(load(tmp_path, VALUES + RULES), "/list?ns=value:home") == "namespace_invalid"


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        (VALUES, {"bucket": ["x"]}, "0: no policy file has the value 'bucket' that the settings give / did you mean"),
        (VALUES, {"xyzzy": "x"}, "the files' values are buckets, home"),
        (VALUES, {"buckets": "x"}, "3: values.buckets: is a list here, and a text in the settings"),
        (VALUES, {"home": ["x"]}, "3: values.home: is a text here, and a list in the settings"),
        (VALUES, {"home": "No Name"}, "8: namespace: 'value:home' is not the name of a namespace"),
        (VALUES, {"home": "refused"}, "absentNamespace: 'refused' is neither refuse,"),
        ("values: {buckets: [one], hom: x}\n", {}, "8: namespace: the file has no value 'home' / did you mean 'hom'?"),
        ("", {}, "6: oneOf: the file has no value 'buckets' / name it under values"),
        ("values: {buckets: one, home: x}\n", {}, "7: oneOf: 'value:buckets' is a text, where a list is needed"),
        ("values: {buckets: [one], home: [x]}\n", {}, "8: namespace: 'value:home' is a list, where a text is needed"),
        ("values: {buckets: []}\n", {}, "3: buckets: List should have at least 1 item"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_at_load(
    tmp_path: Path, values: str, settings: Values, expected: str
) -> None:
    """With the place, and how to mend it."""
    assert any(expected in found for found in problems(tmp_path, values + RULES, values=settings))


def test_one_name_means_one_thing(tmp_path: Path) -> None:
    """Two files that give one value differently are a mistake in one of them."""
    found = problems(tmp_path, VALUES + RULES, "values: {home: other}\nrules: []\n")
    assert found == [f"3: values.home: is 'other' here, and 'kubeflow' in {tmp_path / '0.yaml'} / say the same in both"]


@pytest.mark.parametrize(
    ("check", "lookups", "expected"),
    [
        ("verb: get, sharedNamespace: authenticated", LOOKUPS, "shared-objects is for list; of one object only its id"),
        ("verb: list, sharedNamespace: authenticated", (), "shared-objects has nobody to ask (hint: name the KFP API"),
        ("verb: list", LOOKUPS, "absentNamespace: shared-objects needs sharedNamespace"),
    ],
)
def test_shared_objects_are_listed_and_nothing_else(
    tmp_path: Path, check: str, lookups: frozenset[str], expected: str
) -> None:
    """Where nobody can be asked what a list shows, no list is open."""
    absent = "resource: r, namespace: 'query:ns', absentNamespace: shared-objects"
    (tmp_path / "a.yaml").write_text(
        f"{HEAD}rules:\n  - {{name: a, match: {{path: /a}}, access: [{{{check}, {absent}}}]}}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        policy.load([tmp_path], KEYS, lookups)
    assert expected in str(caught.value)
