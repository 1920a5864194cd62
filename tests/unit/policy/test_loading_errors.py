"""What is wrong with a policy is said at load, with file, line, column and a remedy."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extauthz import policy
from extauthz.errors import ConfigurationError
from tests.unit.policy.build import HEAD, KEYS, check, load, problems, rules

RULE = HEAD + "rules:\n"
# Lines 4 to 6; the checks of `access` begin in line 7.
OPEN = RULE + "- name: one\n  match: {path: '/x/{namespace}/{name}'}\n  access:\n"


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("- name: one\n  match: {path: /x}\n  alow: public", (6, 3), "unknown key 'alow'", "did you mean 'allow'?"),
        (
            "- name: one\n  match: {path: /x}\n  allow: publik",
            (6, 3),
            "allow: Input should be",
            "did you mean 'public'?",
        ),
        (
            "- name: one\n  match: {path: /x, methods: [get]}\n  allow: public",
            (5, 31),
            "methods[0]: ",
            "did you mean 'GET'?",
        ),
        ("- name: one\n  name: two", (5, 3), "duplicate key 'name'", "keep one of them"),
        ("- match: {path: /x}\n  allow: public", (4, 3), "required key 'name' is missing", ""),
        ("- name: One\n  match: {path: /x}\n  allow: public", (4, 3), "name: String should match pattern", ""),
        ("- name: one\n  match: {path: x}\n  allow: public", (5, 11), "path: String should match pattern", ""),
        ("- name: one\n  match: {path: /x}", (4, 3), "rule 'one' needs exactly one of allow, access and deny", ""),
        (
            "- name: one\n  match: {path: /x}\n  allow: public\n  deny: no",
            (4, 3),
            "rule 'one' needs exactly one of allow, access and deny",
            "",
        ),
        (
            "- name: one\n  match: {path: /x}\n  allow: public\n- name: one\n  match: {path: /y}\n  allow: public",
            (7, 3),
            "rule name 'one' is taken by one (",
            "choose another name",
        ),
        (
            "- {name: one, match: {path: '/x/{a}'}, deny: no}\n\n\n- name: two\n  match: {path: '/x/{b}'}\n  deny: no",
            (7, 3),
            "rule 'two' decides the same requests as one (",
            "narrow its path, methods or hosts",
        ),
        (
            "- name: one\n  match: {path: /x/y}\n  allow: public\n- name: two\n  match: {path: /x/Y}\n  deny: no",
            (7, 3),
            "the path of rule 'two' differs only in letter case from that of one (",
            "narrow its path, methods or hosts",
        ),
        (
            "- name: one\n  match: {path: /x}\n  allow: public\n  tolerate: [dot_segment]",
            (7, 14),
            "'dot_segment' can never be tolerated",
            "",
        ),
        (
            "- name: one\n  match: {path: /x}\n  allow: public\n  tolerate: [empty_segments]",
            (7, 14),
            "tolerate[0]: Input should be",
            "did you mean 'empty_segment'?",
        ),
        (
            "- name: one\n  match: {path: '/x/{y}'}\n  allow: public\n  tolerate: [empty_segment, query_duplicate]",
            (7, 14),
            "tolerate[0]: the path has no {name...}, so 'empty_segment' would never be tolerated",
            "",
        ),
        (
            "- name: one\n  match: {path: '/{y...}'}\n  allow: public\n  tolerate: [empty_segment]",
            (7, 3),
            "a rule for every path cannot tolerate ambiguity",
            "give it a fixed prefix",
        ),
        (
            "- name: one\n  match: {path: '/{x}/{y...}'}\n  allow: public\n  tolerate: [empty_segment]",
            (7, 3),
            "a rule for every path cannot tolerate ambiguity",
            "give it a fixed prefix",
        ),
        (
            "- name: one\n  match: {path: '/x'}\n  allow: authenticated\n  enforce: shadow",
            (7, 3),
            "enforce: shadow needs access, deny or when; the rule refuses nobody",
            "",
        ),
        (
            "- name: one\n  match: {path: '/x'}\n  allow: public\n  forbid: [namespace]",
            (7, 12),
            "forbid[0]: 'namespace' is a literal, and would always be there",
            "name a source, such as query:namespace",
        ),
        (
            "- name: one\n  match: {path: '/x'}\n  allow: public\n  forbid: ['query:namespace?']",
            (7, 12),
            "forbid[0]: 'query:namespace?' cannot be optional",
            "remove the question mark",
        ),
        (
            "- name: one\n  match: {path: '/x'}\n  allow: public\n  forbid: ['claim:namespace']",
            (7, 12),
            "forbid[0]: a public rule knows no claim",
            "",
        ),
    ],
)
def test_rule_errors(text: str, place: tuple[int, int], message: str, hint: str) -> None:
    """Each mistake in a rule is told at its place, once, with a remedy."""
    (found,) = problems(RULE + text)
    assert found.message.startswith(message) or message in found.message
    assert (found.line, found.column, found.hint) == (*place, hint)
    assert found.file is not None


@pytest.mark.parametrize(
    ("text", "column", "message", "hint"),
    [
        (
            "{verb: get, resource: r, namespace: 'qeury:namespace'}",
            32,
            "namespace: unknown source 'qeury'",
            "did you mean 'query'?",
        ),
        (
            "{verb: get, resource: r, namespace: 'xyzzy:namespace'}",
            32,
            "namespace: unknown source 'xyzzy'",
            "the sources are body, claim, header, host, key, lookup, path, query, value",
        ),
        (
            "{verb: get, resource: r, namespace: 'lookup:run:path:name'}",
            32,
            "namespace: lookup:run has nobody to ask",
            "name the KFP API in the settings, under lookups.kfp",
        ),
        (
            "{verb: get, resource: r, namespace: 'path:namspace'}",
            32,
            "namespace: the path /x/{namespace}/{name} has no variable 'namspace'",
            "did you mean 'namespace'?",
        ),
        (
            "{verb: get, resource: r, namespace: ['path:name', 'path:run']}",
            57,
            "namespace[1]: the path /x/{namespace}/{name} has no variable 'run'",
            "",
        ),
        ("{verb: get, resource: r, namespace: 'query:'}", 32, "namespace: '' is not a name", ""),
        ("{verb: get, resource: r, namespace: 'query:a b'}", 32, "namespace: 'a b' is not a name", ""),
        ("{verb: get, resource: r, namespace: 'header::path'}", 32, "namespace: ':path' is not a name", ""),
        (
            "{verb: get, resource: r, namespace: 'body:namespace'}",
            32,
            "namespace: body pointer 'namespace' must name a member",
            "such as body:/namespace",
        ),
        (
            "{verb: get, resource: r, namespace: 'body:/'}",
            32,
            "namespace: body pointer '/' must name a member",
            "such as body:/namespace",
        ),
        (
            "{verb: get, resource: r, namespace: 'body:/a/'}",
            32,
            "namespace: body pointer '/a/' must name a member",
            "such as body:/namespace",
        ),
        (
            "{verb: get, resource: r, namespace: 'body:/a~2'}",
            32,
            "namespace: body pointer '/a~2' must name a member",
            "such as body:/namespace",
        ),
        (
            "{verb: get, resource: r, namespace: 'key:artefact:query:key'}",
            32,
            "namespace: unknown kind of key 'artefact'",
            "did you mean 'artifact'?",
        ),
        (
            "{verb: get, resource: r, namespace: 'key:blob:query:key'}",
            32,
            "namespace: unknown kind of key 'blob'",
            "the kinds are artifact",
        ),
        (
            "{verb: get, resource: r, namespace: 'key:artifact'}",
            32,
            "namespace: key:artifact needs the source of the key",
            "such as key:artifact:query:key",
        ),
        (
            "{verb: get, resource: r, namespace: 'key:artifact:some'}",
            32,
            "namespace: key:artifact needs the source of the key",
            "such as key:artifact:query:key",
        ),
        (
            "{verb: get, resource: r, namespace: 'key:artifact:path:kye'}",
            32,
            "namespace: the path /x/{namespace}/{name} has no variable 'kye'",
            "",
        ),
        ("{verb: get, resource: r, namespace: Team_A}", 32, "namespace: 'Team_A' is not the name of a namespace", ""),
        ("{verb: get, resource: r, namespace: '*'}", 32, "namespace: '*' is not the name of a namespace", ""),
        (
            "{verb: get, resource: r, namespace: 'team-a?'}",
            32,
            "namespace: 'team-a?' is a literal and cannot be optional",
            "remove the question mark",
        ),
        ("{verb: 'query:verb?', resource: r}", 8, "verb: 'query:verb?' cannot be optional", "remove the question mark"),
        (
            "{verb: get, resource: 'path:name?'}",
            19,
            "resource: 'path:name?' cannot be optional",
            "remove the question mark",
        ),
        ("{verb: get, path: 'path:name?'}", 19, "path: 'path:name?' cannot be optional", "remove the question mark"),
        ("{verb: get, resource: r, namespace: []}", 32, "namespace: ", ""),
        ("{verb: get, resource: r, namespace: 5}", 32, "namespace: ", "put it in quotes"),
        ("{verb: get, resource: ''}", 19, "resource: String should have at least 1 character", ""),
        ("{verb: get}", 7, "a check needs resource, or path for a non-resource URL", ""),
        (
            "{verb: get, path: /m, resource: r}",
            7,
            "a check with path is a non-resource check and takes only verb and ifPresent beside it",
            "",
        ),
        (
            "{verb: get, path: /m, group: g}",
            7,
            "a check with path is a non-resource check and takes only verb and ifPresent beside it",
            "",
        ),
        ("{verb: get, path: m}", 19, "path: 'm' is not a path", "start it with a slash"),
        ("{verb: get, resource: r, absentNamespace: refuse}", 7, "absentNamespace needs namespace", ""),
        (
            "{verb: get, resource: r, namespace: 'query:n', absentNamespace: Shared}",
            54,
            "absentNamespace: 'Shared' is neither",
            "did you mean 'shared-objects'?",
        ),
        (
            "{verb: get, resource: r, namespace: 'query:n', absentNamespace: '-'}",
            54,
            "absentNamespace: '-' is neither",
            "",
        ),
        (
            "{verb: get, resource: r, namespace: 'query:n', absentNamespace: a/b}",
            54,
            "absentNamespace: 'a/b' is neither",
            "",
        ),
        (
            "{verb: get, resource: r, namespace: 'query:n', absentNamespace: 'query:m'}",
            54,
            "absentNamespace: 'query:m' is neither",
            "",
        ),
        (
            "{verb: get, resource: r, namespace: 'query:n', absentNamespace: all_namespaces}",
            54,
            "absentNamespace: 'all_namespaces' is neither",
            "did you mean 'all-namespaces'?",
        ),
        (
            "{verb: get, resource: r, namespace: 'query:n', absentNamespace: allnamespaces}",
            54,
            "absentNamespace: 'allnamespaces' is neither",
            "did you mean 'all-namespaces'?",
        ),
        (
            "{verb: get, resource: r, namespace: 'query:n', absentNamespace: refused}",
            54,
            "absentNamespace: 'refused' is neither",
            "did you mean 'refuse'?",
        ),
        (
            "{verb: get, resource: r, namespace: 'query:n', abesntNamespace: refuse}",
            54,
            "unknown key 'abesntNamespace'",
            "did you mean 'absentNamespace'?",
        ),
    ],
)
def test_check_errors(text: str, column: int, message: str, hint: str) -> None:
    """Each mistake in a check is told at its key or item, with a remedy where there is one."""
    found = problems(OPEN + f"    - {text}")
    assert [(item.line, item.column, item.hint) for item in found[:1]] == [(7, column, hint)], found
    assert found[0].message.startswith(message)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/{a}/{a}", "a variable is named twice"),
        ("/{a...}/b", "a {name...} variable must be the last segment"),
        ("/{a...}:b", "segment '{a...}:b' is a tail and cannot have a suffix"),
        ("/{runId}", "segment '{runId}' is not a variable"),
        ("/{a", "segment '{a' is not a variable"),
        ("/x{a}", "segment 'x{a}' is not a variable"),
        ("/{a}.json", "segment '{a}.json' is not a variable"),
        ("/{}", "segment '{}' is not a variable"),
        ("/a//b", "'/a//b' is not in canonical form"),
        ("/{a}//", "is not in canonical form"),
        ("//", "is not in canonical form"),
        ("/../a", "is not in canonical form"),
        ("/a/%2e", "is not in canonical form"),
        ("/a%2Fb", "is not in canonical form"),
        ("/%61", "is not in canonical form"),
        ("/a b", "is not in canonical form"),
        ("/é", "is not in canonical form"),
        ("/a;b", "is not in canonical form"),
        ("/a\\b", "is not in canonical form"),
        ("/a#b", "is not in canonical form"),
        ("/a?b=c", "a path has no query"),
        ("/a/*", "'*' is no wildcard"),
        ("/a*/b", "'*' is no wildcard"),
        ("/a" * 300, "more than 256 segments"),
    ],
)
def test_template_errors(path: str, message: str) -> None:
    """A path that could never match, or means something else than it looks like, does not load."""
    found = problems(RULE + f"- name: one\n  match:\n    path: '{path}'\n  allow: public")
    assert [(item.line, item.column) for item in found] == [(6, 5)]
    assert found[0].message.startswith("path: ")
    assert message in found[0].message


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"match": {"path": "/x/{r...}"}, "access": [check(namespace="path:r")]}, "the rule reads path:r"),
        (
            {"match": {"path": "/x/{r...}"}, "access": [check(namespace=["query:a?", "path:r?"])]},
            "the rule reads path:r",
        ),
        ({"match": {"path": "/x/{r...}"}, "access": [check(name="key:artifact:path:r")]}, "the rule reads path:r"),
        ({"match": {"path": "/x/{r...}"}, "access": [{"verb": "get", "path": "path:r"}]}, "the rule reads path:r"),
        ({"match": {"path": "/x/{r...}"}, "allow": "public", "forbid": ["path:r"]}, "the rule reads path:r"),
    ],
)
def test_a_tail_that_is_read_cannot_be_ambiguous(rule: dict[str, Any], message: str) -> None:
    """A rule that takes a value from the tail does not tolerate two readings of the tail."""
    with pytest.raises(ConfigurationError, match=message):
        rules({**rule, "tolerate": ["encoded_slash"]})


@pytest.mark.parametrize(
    ("fault", "source"),
    [
        ("query_semicolon", "query:namespace"),
        ("query_duplicate", "query:namespace"),
        ("query_spelling", "key:artifact:query:key"),
        ("form_content_type", "body:/namespace"),
    ],
)
def test_what_is_read_cannot_be_ambiguous(fault: str, source: str) -> None:
    """A rule that reads the query or the body does not tolerate two readings of it."""
    rule = {"match": {"path": "/x/{r...}"}, "tolerate": [fault]}
    with pytest.raises(
        ConfigurationError, match=f"tolerate.0.: the rule reads {source}, so '{fault}' cannot be tolerated"
    ):
        rules({**rule, "access": [check(namespace=source)]})
    assert rules({**rule, "access": [check(namespace="header:x")]}).rules


def test_a_rule_that_tolerates_two_readings_of_its_tail_stands_alone_there() -> None:
    """A rule below a tolerant one could be walked around by the other reading, so it does not load."""
    tolerant = {"match": {"path": "/n/{ns}/{name}/{rest...}"}, "tolerate": ["encoded_slash"], "allow": "authenticated"}
    for below in (
        "/n/{ns}/{name}/admin",
        "/n/{ns}/x/{y}/z",
        "/n/team-a/{x}/{more...}",
        "/n/{ns}/{name}/{x}/{rest...}",
        "/n/{ns}/{name}/",
    ):
        with pytest.raises(
            ConfigurationError, match=r"rule 'rule-1' lies below rule-0 .*, which tolerates ambiguous paths"
        ):
            rules(tolerant, {"match": {"path": below}, "deny": "no"})
        with pytest.raises(ConfigurationError, match=r"rule 'rule-0' lies below rule-1"):
            rules({"match": {"path": below}, "deny": "no"}, tolerant)
    for beside in ("/n/{ns}/{name}", "/n/{rest...}", "/m/{ns}/{name}/{rest...}", "/n/{ns}/"):
        assert rules(tolerant, {"match": {"path": beside}, "deny": "no"}).rules
    tolerant["tolerate"] = ["query_duplicate"]
    assert rules(tolerant, {"match": {"path": "/n/{ns}/{name}/admin"}, "deny": "no"}).rules


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"methods": ["GET"]}, {"hosts": ["a.example.com"]}),
        ({"hosts": ["a.example.com"]}, {"methods": ["GET"]}),
        ({"methods": ["GET"], "hosts": ["*.example.com"]}, {"hosts": ["a.example.com"]}),
    ],
)
def test_a_narrower_method_against_a_narrower_host_is_ambiguous(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Neither of two such rules is the more specific one, so the policy does not load."""
    path = {"path": "/x"}
    with pytest.raises(ConfigurationError, match=r"rule 'rule-[01]' decides the same requests as rule-[01] "):
        rules({"match": path | first, "allow": "public"}, {"match": path | second, "deny": "no"})
    both = {"methods": ["GET"], "hosts": ["a.example.com"]}
    third = {"match": path | both, "deny": "no"}
    assert rules({"match": path | first, "allow": "public"}, {"match": path | second, "deny": "no"}, third).rules


def test_every_problem_of_every_document_and_file_is_told(tmp_path: Path) -> None:
    """One run shows all mistakes."""
    (tmp_path / "a.yaml").write_text(
        RULE + "- nam: x\n---\n" + RULE + "- name: one\n  match: {path: x}\n  allow: public"
    )
    (tmp_path / "b.yml").write_text("a: 1\na: 2")
    with pytest.raises(ConfigurationError) as caught:
        policy.load([tmp_path], KEYS)
    places = [(item.file.name if item.file else "", item.line) for item in caught.value.problems]
    assert places == [("a.yaml", 4), ("a.yaml", 4), ("a.yaml", 4), ("a.yaml", 10), ("b.yml", 2)]


def test_one_rule_can_have_several_problems() -> None:
    """The mistakes of one rule come together, and a broken rule takes part in no comparison."""
    found = problems(OPEN + "  - {verb: 'x:y', resource: 'z:y', namespace: 'path:q', name: 'path:r'}")
    assert len(found) == 4


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_does_not_load(text: str) -> None:
    """A file that lost its content is a mistake; nothing is unloaded because of it."""
    (found,) = problems(text)
    assert found.message == "the file holds no YAML document"


def test_other_kinds_of_documents_do_not_load() -> None:
    """A policy file holds policies and nothing else."""
    (version,) = problems("apiVersion: extauthz.dev/v2\nkind: Policy\nrules: []")
    assert (version.line, version.message) == (1, "apiVersion: Input should be 'extauthz.dev/v1'")
    (kind,) = problems("apiVersion: extauthz.dev/v1\nkind: Settings\nrules: []")
    assert (kind.line, kind.message) == (2, "kind: Input should be 'Policy'")


def test_a_policy_without_rules_loads_with_a_warning() -> None:
    """Refusing everything can be meant, but is said aloud."""
    loaded = load(HEAD + "rules: []")
    assert [warning.message for warning in loaded.warnings] == ["the policy has no rule, so every request is refused"]
    assert load(RULE + "- {name: a, match: {path: /x}, allow: public}").warnings == ()


def test_several_documents_are_one_policy() -> None:
    """Documents of one file add up."""
    one = RULE + "- {name: a, match: {path: /a}, allow: public}\n"
    two = RULE + "- {name: b, match: {path: /b}, allow: public}\n"
    assert [rule.ref.name for rule in load(one + "---\n" + two).rules] == ["a", "b"]


def test_files_are_found_in_order_and_hidden_ones_left_out(tmp_path: Path) -> None:
    """A ConfigMap mount, nested items included, yields each of its files once."""
    data = tmp_path / "..2026" / "sub"
    data.mkdir(parents=True)
    (tmp_path / "..data").symlink_to("..2026")
    for name in ("b", "a"):
        (data / f"{name}.yaml").write_text(RULE + f"- {{name: {name}, match: {{path: /{name}}}, allow: public}}")
        (tmp_path / f"{name}.yml").write_text(RULE + f"- {{name: y{name}, match: {{path: /y{name}}}, allow: public}}")
    (tmp_path / "sub").symlink_to("..data/sub")
    (tmp_path / "README.md").write_text("no policy")
    (tmp_path / ".hidden.yaml").write_text("no policy")
    (data / "loop").symlink_to(tmp_path)
    assert [rule.ref.name for rule in policy.load([tmp_path], KEYS).rules] == ["ya", "yb", "a", "b"]


def test_a_file_named_outright_needs_no_ending(tmp_path: Path) -> None:
    """Only folders are searched by the ending of names."""
    file = tmp_path / ".policy"
    file.write_text(HEAD + "rules: []")
    assert policy.load([file], KEYS).rules == ()


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    """A path that is not there, a folder without policies and a dangling link are mistakes."""
    with pytest.raises(ConfigurationError, match="no such file or folder"):
        policy.load([tmp_path / "none"], KEYS)
    with pytest.raises(ConfigurationError, match="no YAML file in this folder"):
        policy.load([tmp_path], KEYS)
    (tmp_path / "a.yaml").symlink_to("gone.yaml")
    with pytest.raises(ConfigurationError, match=r"a\.yaml: cannot be read: No such file"):
        policy.load([tmp_path], KEYS)


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root may read everything, so be nobody for a moment."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_an_unreadable_folder_is_told() -> None:
    """A folder that cannot be listed is not an empty one."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        (top / "a.yaml").write_text(HEAD + "rules: []")
        (top / "closed").mkdir(mode=0o000)
        with without_privileges(), pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
            policy.load([top], KEYS)
