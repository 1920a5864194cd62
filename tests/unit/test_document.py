"""YAML documents: what is read, what is refused, and where each problem stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator

from extauthz import document
from extauthz.document import Model
from extauthz.errors import ConfigurationError, Problem

FILE = Path("policy.yaml")


class Leaf(Model):
    """A part of the model under test."""

    max_bytes: int = 0
    words: str | list[str] = ""
    kind: Literal["near", "far"] = "near"
    word: str = ""

    @field_validator("word")
    @classmethod
    def _no_spaces(cls, value: str) -> str:
        if " " in value:
            raise ValueError("a word has no spaces")
        return value


class Root(Model):
    """The model under test."""

    name: str
    leaves: Annotated[list[Leaf], Field(min_length=1)] = [Leaf()]


def problems(content: bytes | str) -> list[Problem]:
    """Return what is wrong with a document that should be a Root."""
    with pytest.raises(ConfigurationError) as caught:
        validate(content.encode() if isinstance(content, str) else content)
    return list(caught.value.problems)


def validate(content: bytes) -> None:
    """Parse and check every document."""
    for part in document.parse(content, FILE):
        part.validate(Root)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("010", "010"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("2001-01-01", "2001-01-01"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("=", "="),
        ("tRue", "tRue"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("! 5", "5"),
        ("99999999999999999999", "99999999999999999999"),
        ("\u0661", "\u0661"),
        ("5", 5),
        ("+5", 5),
        ("-0", 0),
        ("1.5", 1.5),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("FALSE", False),
        ("Null", None),
        ("~", None),
        ("", None),
        ("|\n  two\n  lines", "two\nlines"),
    ],
)
def test_scalars_follow_yaml_1_2_and_doubtful_ones_stay_text(text: str, value: object) -> None:
    """Plain scalars are numbers, booleans and null only where no YAML version disagrees."""
    (part,) = document.parse(f"a: {text}".encode(), FILE)
    assert part.data == {"a": value}
    assert type(part.data["a"]) is type(value)


@pytest.mark.parametrize(
    "content", ["a: [1, {b: [x]}]", "a:\n  - 1\n  - b:\n    - x", "%YAML 1.2\n---\na: [1, {b: [x]}]"]
)
def test_flow_and_block_style_are_alike(content: str) -> None:
    """Both styles of YAML give the same data."""
    (part,) = document.parse(content.encode(), FILE)
    assert part.data == {"a": [1, {"b": ["x"]}]}


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    """Editors that write a UTF-8 byte order mark do not break a file."""
    (part,) = document.parse("\ufeffa: 1".encode(), FILE)
    assert part.data == {"a": 1}


def test_every_document_of_a_file_is_read() -> None:
    """Documents are separated by three dashes and each counts its own places."""
    first, second = document.parse(b"a: 1\n---\n\nb: 2\n", FILE)
    assert (first.data, second.data) == ({"a": 1}, {"b": 2})
    assert second.position(("b",)) == (4, 1)


@pytest.mark.parametrize("content", ["", "# only a comment\n", "\n\n"])
def test_a_file_without_documents_is_refused(content: str) -> None:
    """An emptied file is a mistake, such as an edit under way, not an empty configuration."""
    assert [str(problem) for problem in problems(content)] == ["policy.yaml: the file holds no YAML document"]


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        (b"a: 1\na: 2", (2, 1), "duplicate key 'a'"),
        (b"a: 1\n'a': 2", (2, 1), "duplicate key 'a'"),
        (b"b:\n  - a: 1\n    a: 2", (3, 5), "duplicate key 'a'"),
        (b"a: &x 1", (1, 4), "anchors and aliases are not supported"),
        (b"a: *x", (1, 4), "anchors and aliases are not supported"),
        (b"&a [*a]", (1, 1), "anchors and aliases are not supported"),
        (b"<<: *x", (1, 5), "anchors and aliases are not supported"),
        (b"*x : 1", (1, 1), "a key must be plain text"),
        (b"&x a: 1", (1, 1), "a key must be plain text"),
        (b"!!str a: 1", (1, 1), "a key must be plain text"),
        (b"? [a]\n: 1", (1, 3), "a key must be plain text"),
        (b"a: !!python/object:os.system x", (1, 4), "tag 'tag:yaml.org,2002:python/object:os.system' is not supported"),
        (b"a: !!python/object/apply:os.system [x]", (1, 4), "tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        (b"a: !include x", (1, 4), "tag '!include' is not supported"),
        (b"a: !!int 5", (1, 4), "tag 'tag:yaml.org,2002:int' is not supported"),
        (b"a:\n\tb: 1", (2, 1), "not valid YAML: found character that cannot start any token"),
        (b"a: b: c", (1, 5), "not valid YAML: mapping values are not allowed in this context"),
        (b"a: 'x", (1, 6), "not valid YAML: found unexpected end of stream"),
        (b"a: 1\n...\nb", (3, 1), "not valid YAML: did not find expected <document start>"),
        (b"ab: 1\nc: \x00", (2, 4), "control character U+0000"),
        (b"a: \x07", (1, 4), "control character U+0007"),
        ("é: x\nb: é\x1b".encode(), (2, 5), "control character U+001B"),
        ("a: \ud800".encode("utf-8", "surrogatepass"), (1, 4), "not UTF-8"),
        (b"a: 1\nb: \xff", (2, 4), "not UTF-8"),
        ("a: 1".encode("utf-16"), (1, 1), "not UTF-8"),
        (b"- a", (1, 1), "expected a mapping, found a list"),
        (b"text", (1, 1), "expected a mapping, found text"),
        (b"5", (1, 1), "expected a mapping, found a number"),
        (b"true", (1, 1), "expected a mapping, found true or false"),
        (b"---\n", (2, 1), "expected a mapping, found nothing"),
    ],
)
def test_each_fault_names_its_place(content: bytes, place: tuple[int, int], message: str) -> None:
    """Whatever could be read in two ways is refused with file, line and column."""
    (problem,) = problems(content)
    assert message in problem.message
    assert "\n" not in problem.message
    assert (problem.file, problem.line, problem.column) == (FILE, *place)


@pytest.mark.parametrize(
    ("content", "place", "message", "hint"),
    [
        ("nmae: x\nname: y", (1, 1), "unknown key 'nmae'", "did you mean 'name'?"),
        (
            "name: y\nmaxBytes: 1",
            (2, 1),
            "unknown key 'maxBytes'",
            "the key belongs to another section: check the indentation",
        ),
        ("name: y\nleaves:\n  - maxByte: 1", (3, 5), "unknown key 'maxByte'", "did you mean 'maxBytes'?"),
        ("name: y\nleaves:\n  - max_bytes: 1", (3, 5), "unknown key 'max_bytes'", "did you mean 'maxBytes'?"),
        ("name: y\nxyzzy: 1", (2, 1), "unknown key 'xyzzy'", ""),
        ("leaves: [{}]", (1, 1), "required key 'name' is missing", ""),
        ("name: 5", (1, 1), "name: Input should be a valid string", "put it in quotes"),
        ("name: y\nleaves: []", (2, 1), "leaves: List should have at least 1 item", ""),
        ("name: y\nleaves:\n- kind: nere", (3, 3), "kind: Input should be 'near' or 'far'", "did you mean 'near'?"),
        ("name: y\nleaves:\n- word: a b", (3, 3), "a word has no spaces", ""),
        ("name: y\nleaves:\n- {}\n- x", (4, 3), "leaves[1]: Input should be a valid dictionary", ""),
        ("name: y\nleaves:\n- words: [a, 5]", (3, 14), "words[1]: Input should be a valid string", "put it in quotes"),
    ],
)
def test_model_errors_name_place_and_remedy(content: str, place: tuple[int, int], message: str, hint: str) -> None:
    """An error of the model points at the key or item that it speaks of."""
    found = [item for item in problems(content) if (item.line, item.column) == place]
    assert any(message in item.message and item.hint == hint for item in found), [
        str(item) for item in problems(content)
    ]


def test_all_errors_of_a_document_come_at_once() -> None:
    """Nobody has to mend one mistake to see the next."""
    assert len(problems("nmae: x\nleaves: [{maxBytes: a}]")) == 3


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    """Nothing is ever expanded, so the bomb costs as little as any other typing error."""
    bomb = "a: &a [x]\n" + "\n".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)
    )
    (problem,) = problems(bomb)
    assert (problem.line, problem.message) == (1, "anchors and aliases are not supported")


@pytest.mark.parametrize("content", ["[" * 100_000, "{a: " * 100_000, "- " * 50_000, "a: " + "[" * 33 + "]" * 33])
def test_deep_nesting_is_refused(content: str) -> None:
    """Nesting is bounded, so that no document can exhaust the stack."""
    (problem,) = problems(content)
    assert problem.message == f"nested deeper than {document.MAX_DEPTH} levels"


def test_the_greatest_depth_is_read() -> None:
    """The bound counts containers, and the last allowed one is allowed."""
    (part,) = document.parse(("[" * document.MAX_DEPTH + "]" * document.MAX_DEPTH).encode(), FILE)
    assert isinstance(part.data, list)


def test_a_file_larger_than_the_bound_is_refused_unread(tmp_path: Path) -> None:
    """A huge file costs no memory."""
    file = tmp_path / "big.yaml"
    with file.open("wb") as stream:
        stream.truncate(20 * 1024 * 1024)
    with pytest.raises(ConfigurationError, match=f"larger than {document.MAX_BYTES} bytes"):
        document.read(file)


def test_an_endless_file_is_refused() -> None:
    """Only as much as the bound is ever read."""
    with pytest.raises(ConfigurationError, match="larger than"):
        document.read(Path("/dev/zero"))


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str) -> None:
    """The operating system's reason is passed on."""
    with pytest.raises(ConfigurationError, match=r"cannot be read: (No such file|Is a directory)"):
        document.read(tmp_path / name)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """Reading gives the same documents as parsing the file's bytes."""
    file = tmp_path / "a.yaml"
    file.write_text("name: x")
    (part,) = document.read(file)
    assert part.validate(Root).name == "x"


def test_an_unknown_place_is_that_of_its_nearest_known_parent() -> None:
    """A place that is not written in the document still leads near."""
    (part,) = document.parse(b"a:\n  b: 1", FILE)
    assert part.position(("a", "c", "d")) == (1, 1)
    assert part.position(("a", "b")) == (2, 3)
    assert part.position(()) == (1, 1)
