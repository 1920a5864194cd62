"""Manifests on disk: which files are read, what they mean, and how errors are told."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import yaml

from extauthz.access.rbac import RbacStore, documents, load
from extauthz.access.rbac.objects import API_VERSION
from extauthz.errors import ConfigurationError
from tests.unit.access.rbac.cluster import DATA, Json, ask, binding, get, role, user

ROLE = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\n"
BINDING = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: b}
roleRef: {kind: ClusterRole, name: r}
subjects: [{kind: User, name: u}]
"""
PODS = "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n"


def loaded(folder: Path, text: str, name: str = "all.yaml") -> RbacStore:
    (folder / name).write_text(text)
    return load([folder / name])


def refusal(folder: Path, text: str, name: str = "all.yaml") -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, text, name)
    return str(caught.value).replace(f"{folder}/", "")


def dump(kind: str, *items: Json, version: str = "v1") -> Json:
    return {"apiVersion": version, "kind": kind, "items": list(items), "metadata": {"resourceVersion": ""}}


OBJECTS = [role("r", get("pods")), binding("b", user("u"))]
ROLE_LIST = dump("ClusterRoleList", {"metadata": {"name": "r"}, "rules": [get("pods")]}, version=API_VERSION)


@pytest.mark.parametrize(
    "text",
    [
        f"{ROLE}{PODS}---\n{BINDING}",
        f"---\n# only a comment\n---\n{ROLE}{PODS}---\n---\n{BINDING}---\n",
        f"---\nkind: Pod\napiVersion: v1\nspec: {{on: 1}}\n---\njust: values\n---\n{ROLE}{PODS}---\n{BINDING}",
        yaml.safe_dump(dump("List", *OBJECTS)),
        yaml.safe_dump(dump("List", dump("List", OBJECTS[0]), OBJECTS[1], {"kind": "Pod"})),
        yaml.safe_dump_all((ROLE_LIST, dump("ClusterRoleBindingList", OBJECTS[1], version=API_VERSION))),
        json.dumps(dump("List", *OBJECTS), indent=2),
        f"{ROLE}{PODS}---\n{BINDING}---\n{BINDING}",
    ],
    ids=[
        "stream",
        "empty-documents",
        "other-kinds",
        "list",
        "nested-list",
        "typed-lists",
        "json-in-yaml",
        "twice-the-same",
    ],
)
def test_manifests_are_read_in_every_form_that_kubectl_writes(tmp_path: Path, text: str) -> None:
    """Streams, lists, typed lists and JSON give the same two objects."""
    filled = loaded(tmp_path, text)
    assert (len(filled), ask(filled, "u").allowed) == (2, True)


@pytest.mark.parametrize("name", ["all.json", "dump"])
def test_json_may_hold_several_objects(tmp_path: Path, name: str) -> None:
    """A .json file, or a file without suffix that begins like JSON, is a stream of objects."""
    filled = loaded(tmp_path, "\n ".join(map(json.dumps, OBJECTS)) + "\n", name)
    assert (len(filled), ask(filled, "u").allowed) == (2, True)


def test_folders_are_read_recursively_without_hidden_files(tmp_path: Path) -> None:
    """Nested .yaml, .yml and .json files count; other suffixes and hidden files and folders do not."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "..data").mkdir()
    (tmp_path / "deep" / "er" / "role.yml").write_text(ROLE + PODS)
    (tmp_path / "binding.json").write_text(json.dumps(OBJECTS[1]))
    for other in (".hidden.yaml", "..data/role.yaml", "readme.txt"):
        (tmp_path / other).write_text("not: [valid")
    filled = load([tmp_path])
    assert (len(filled), ask(filled, "u").allowed) == (2, True)


def test_a_folder_without_manifests_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    """A mistyped path is told, not taken for an empty cluster."""
    with pytest.raises(ConfigurationError, match=rf"^{re.escape(str(tmp_path))}: no manifests in this folder \(hint: "):
        load([tmp_path])
    with pytest.raises(ConfigurationError, match=r"gone\.yaml: cannot be read: No such file"):
        load([tmp_path / "gone.yaml"])


def test_kinds_of_other_api_groups_are_other_kinds(tmp_path: Path) -> None:
    """A Role of a cloud provider's API is no RBAC Role, whatever it holds."""
    text = "apiVersion: iam.example.com/v1\nkind: Role\nmetadata: 7\n---\nkind: ClusterRole\nrules: 7\n"
    assert len(loaded(tmp_path, text)) == 0


@pytest.mark.parametrize("row", yaml.safe_load((DATA / "refused.yaml").read_text()), ids=lambda row: row["says"])
def test_what_kube_apiserver_refuses_grants_nothing(
    tmp_path: Path, row: Json, caplog: pytest.LogCaptureFixture
) -> None:
    """An object that no cluster would store is left out, and the log says where it stands and why."""
    says = row.pop("says")
    with caplog.at_level(logging.WARNING):
        assert len(loaded(tmp_path, "\n" + yaml.safe_dump({"apiVersion": API_VERSION, **row}))) == 0
    assert caplog.messages[0].startswith(f"{tmp_path}/all.yaml:2:1: {row['kind']} ")
    assert caplog.messages[0].endswith(f"grants nothing, kube-apiserver would refuse it: {says}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{ROLE}rules: pods\n", "all.yaml:1:1: ClusterRole r: rules: expected a list, found text"),
        (f"{ROLE}rules: [pods]\n", "all.yaml:1:1: ClusterRole r: rules: expected a list of objects, found text"),
        (f"{ROLE}rules:\n- verbs: get\n", "all.yaml:5:1: ClusterRole r: verbs: expected a list, found text"),
        (f"{ROLE}rules:\n-\n  verbs: [yes]\n", "all.yaml:6:1: ClusterRole r: verbs: expected text, found a boolean"),
        (ROLE.replace("r}", "10}"), "all.yaml:3:1: ClusterRole without a name: name: expected text, found a number"),
        (ROLE.replace("r}", "r, labels: {a: on}}"), "all.yaml:3:1: ClusterRole r: a: expected text, found a boolean"),
        (ROLE.replace("{name: r}", "r"), "all.yaml:1:1: ClusterRole without a name: metadata: expected an object"),
        (f"{ROLE}aggregationRule: []\n", "all.yaml:1:1: ClusterRole r: aggregationRule: expected an object, found a"),
        ("- a\n- b\n", "all.yaml: expected a Kubernetes object, found a list"),
        ("apiVersion: v1\nkind: List\nitems: {}\n", "all.yaml:1:1: items: expected a list, found an object"),
    ],
)
def test_a_wrong_type_is_an_error_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    """What kube-apiserver could not decode stops the load, and the message leads to the place."""
    assert refusal(tmp_path, text).startswith(says)


def test_the_same_object_twice_with_different_content_names_both_places(tmp_path: Path) -> None:
    """Which of two versions counts is never guessed."""
    text = f"{ROLE}{PODS}---\n{ROLE}"
    expected = "all.yaml:6:1: ClusterRole r differs from the one in all.yaml:1 (hint: keep one of them)"
    assert refusal(tmp_path, text) == expected
    in_json = "\n".join((json.dumps(role("r")), json.dumps(role("r", get("pods")))))
    expected = "all.json: ClusterRole r differs from the one in all.json (hint: keep one of them)"
    assert refusal(tmp_path, in_json, "all.json") == expected


def test_every_problem_of_every_file_is_told(tmp_path: Path) -> None:
    """One broken file does not hide another."""
    (tmp_path / "a.yaml").write_text(f"{ROLE}rules: 1\n---\n{ROLE}rules: 2\n")
    (tmp_path / "b.yaml").write_text("a: [")
    with pytest.raises(ConfigurationError) as caught:
        load([tmp_path])
    assert [(problem.file and problem.file.name, problem.line) for problem in caught.value.problems] == [
        ("a.yaml", 1),
        ("a.yaml", 6),
        ("b.yaml", 2),
    ]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        *((word, True) for word in ("yes", "on", "true", "TRUE")),
        *((word, False) for word in ("No", "off", "OFF", "false")),
        *((word, None) for word in ("", "~", "null", "Null")),
        *((word, word) for word in ("yEs", "y", "N", "nope", "1.2.3", "12:30", "2024-01-01", "_1", "+", "0x")),
        *((word, word) for word in ("!!str yes", "! yes", "'yes'", '"10"', "|-\n  10")),
        *((word, 0.0) for word in ("10", "010", "1_000", "0x1F", "0b1", "0o7", "-1.5e3", ".5", ".inf", "-.Inf")),
        (".nan", 0.0),
    ],
)
def test_plain_scalars_mean_what_kubectl_takes_them_for(tmp_path: Path, scalar: str, value: object) -> None:
    """Booleans, nothing and numbers are those of YAML 1.1 as Go reads it; all else is text."""
    (tmp_path / "a.yaml").write_text(f"a: {scalar}\n")
    (document,) = documents.read(tmp_path / "a.yaml")
    if isinstance(value, str):
        value = value.removeprefix("!!str ").removeprefix("! ").removeprefix("|-\n  ").strip("'\"")
    assert type(document["a"]) is type(value)
    assert isinstance(value, float) or document["a"] == value


def test_anchors_aliases_and_merge_keys_are_followed(tmp_path: Path) -> None:
    """Explicit keys win over merged ones, and earlier merges over later ones."""
    text = (
        "base: &b {a: 'b', c: 'd'}\nother: &o {c: e, f: g}\n"
        "one: {<<: *b, a: x}\ntwo: {<<: [*b, *o]}\nlist: &l [*b]\nagain: *l\n"
    )
    (tmp_path / "a.yaml").write_text(text)
    (document,) = documents.read(tmp_path / "a.yaml")
    assert document["one"] == {"a": "x", "c": "d"}
    assert document["two"] == {"a": "b", "c": "d", "f": "g"}
    assert document["again"] == [{"a": "b", "c": "d"}]


BOMB = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]" for n in range(1, 8))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "all.yaml:2:1: not valid YAML: "),
        ("a: 1\na: 2\n", "all.yaml:2:1: duplicate key 'a' (hint: keep one of them)"),
        ("? [a]\n: b\n", "all.yaml:1:3: a key must be plain text"),
        ("&x a: b\n", "all.yaml:1:1: a key must be plain text"),
        ("a: !!int '3'\n", "all.yaml:1:4: tag 'tag:yaml.org,2002:int' is not supported (hint: remove it)"),
        ("a: !mine {}\n", "all.yaml:1:4: tag '!mine' is not supported (hint: remove it)"),
        ("a: *b\n", "all.yaml:1:4: unknown or recursive alias 'b'"),
        ("a: &a [*a]\n", "all.yaml:1:8: unknown or recursive alias 'a'"),
        ("a: &a b\n---\nc: *a\n", "all.yaml:3:4: unknown or recursive alias 'a'"),
        ("<<: x\n", "all.yaml:1:1: only mappings can be merged"),
        (f"a0: &a0 [x]\n{BOMB}\n", "all.yaml:6:15: aliases stand for more than 1000000 values"),
        ("[" * 100_000, "all.yaml:1:201: nested deeper than 200 levels"),
        ("a: \x07\n", "all.yaml"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_yaml_that_is_broken_or_hostile_is_an_error_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    """Nothing ambiguous is taken, and nothing small makes us work for ever."""
    assert refusal(tmp_path, text).startswith(says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1', "all.json:1:8: not valid JSON: "),
        ('{"a": 1}\nx', "all.json:2:1: not valid JSON: "),
        ('{}\n{"a": 1, "b": 2, "a": 3}', "all.json:2:1: duplicate name 'a' in the object that begins here"),
        ('{}\n{"a": 1,\n"a": 3}\n{}\n', "all.json:2:1: duplicate name 'a'"),
        ("[" * 100_000, "all.json:1:1: nested too deep in the object that begins here"),
        (f'{{"a": {"9" * 5000}}} []', "all.json: expected a Kubernetes object, found a list"),
    ],
    ids=lambda value: value[:20],
)
def test_json_that_is_broken_or_hostile_is_an_error_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    """Broken JSON, duplicate names and endless nesting are refused."""
    assert refusal(tmp_path, text, "all.json").startswith(says)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_lists_and_mappings_nest_200_levels(tmp_path: Path, opening: str, closing: str) -> None:
    """What is refused is the level after."""
    file = tmp_path / "all.yaml"
    file.write_text(opening * 200 + "x" + closing * 200)
    assert len(list(documents.read(file))) == 1
    file.write_text(opening * 201 + "x" + closing * 201)
    with pytest.raises(ConfigurationError, match="nested deeper than 200 levels"):
        list(documents.read(file))


def test_bytes_that_are_not_utf8_or_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A binary or huge file is not parsed; a byte order mark is harmless."""
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigurationError, match=r"a\.yaml: not UTF-8 at byte 3$"):
        load([file])
    file.write_bytes(b"\xef\xbb\xbf" + (ROLE + PODS).encode())
    assert len(load([file])) == 1
    monkeypatch.setattr(documents, "MAX_BYTES", 10)
    with pytest.raises(ConfigurationError, match=r"a\.yaml: larger than 10 bytes$"):
        load([file])
    monkeypatch.setattr(documents, "MAX_BYTES", file.stat().st_size)
    assert len(load([file])) == 1
