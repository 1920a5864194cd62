"""The one layout of policy files: whatever is written, its meaning and its comments stay."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz import document
from extauthz.errors import ConfigurationError
from extauthz.policy import layout
from tests.cases import REPOSITORY

FILE = Path("policy.yaml")
WORDS = st.text("ab/ :#'\"{}[],-?&*!|>%@`\\.é", min_size=1, max_size=8)
CHECK = st.fixed_dictionaries(
    {"verb": WORDS, "resource": WORDS}, optional={"group": WORDS, "namespace": st.lists(WORDS, min_size=1, max_size=2)}
)
RULE = st.fixed_dictionaries(
    {"name": WORDS, "match": st.fixed_dictionaries({"path": WORDS}, optional={"methods": st.just(["GET"])})},
    optional={
        "description": WORDS,
        "access": st.lists(CHECK, min_size=1, max_size=2),
        "forbid": st.lists(WORDS, min_size=1, max_size=2),
        "enforce": st.just("shadow"),
        "deny": WORDS,
    },
)


def quoted(text: str) -> str:
    """Write a scalar so that it can be nothing else."""
    return "'" + text.replace("'", "''") + "'"


def flow(value: Any) -> str:
    """Write a value in braces and brackets."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    return f"[{','.join(map(flow, value))}]" if isinstance(value, list) else quoted(value)


class Writer:
    """Writes values as an untidy person might: keys in any order, comments and blank lines anywhere."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.comments = 0

    def mapping(self, value: dict[str, Any], indent: int) -> list[str]:
        lines = []
        for key in self.draw(st.permutations(list(value))):
            lines += self.between(indent)
            lines += self.entry(key, value[key], indent)
        return lines

    def between(self, indent: int) -> list[str]:
        kinds = self.draw(st.lists(st.sampled_from(["", "#"]), max_size=1))
        return ["" if not kind else " " * indent + self.comment() for kind in kinds]

    def comment(self) -> str:
        self.comments += 1
        return f"# comment {self.comments}"

    def entry(self, key: str, value: Any, indent: int) -> list[str]:
        end = f"  {self.comment()}" if self.draw(st.booleans()) else ""
        if isinstance(value, str) or self.draw(st.booleans()):
            return [" " * indent + f"{key}:   {flow(value)}{end}"]
        head = " " * indent + f"{key}:{end}"
        if isinstance(value, dict):
            return [head, *self.mapping(value, indent + self.draw(st.sampled_from([1, 2, 4])))]
        return [head, *self.items(value, indent + self.draw(st.sampled_from([0, 2, 3])))]

    def items(self, values: list[Any], indent: int) -> list[str]:
        lines = []
        for value in values:
            lines += self.between(indent)
            if isinstance(value, dict):
                first, *rest = self.mapping(value, indent + 2)
                above = []
                while not first.strip() or first.lstrip().startswith("#"):
                    above.append(first)
                    first, *rest = rest
                lines += [*above, " " * indent + "- " + first.lstrip(), *rest]
            else:
                lines.append(" " * indent + f"- {quoted(value)}")
        return lines


@st.composite
def untidy(draw: st.DrawFn) -> str:
    """Draw the text of a policy file."""
    model = {"apiVersion": "extauthz.dev/v1", "kind": "Policy", "rules": draw(st.lists(RULE, min_size=1, max_size=3))}
    writer = Writer(draw)
    return "\n".join(["# head", *writer.mapping(model, 0), *draw(st.sampled_from([[], ["# end"], ["", ""]]))]) + "\n"


def formatted(text: str) -> str:
    """Format a text."""
    return layout.formatted(text.encode(), FILE)


@settings(max_examples=40, deadline=None)
@given(untidy())
def test_formatting_changes_nothing_but_the_layout(text: str) -> None:
    """The same values, every comment once, and what is formatted stays as it is."""
    after = formatted(text)
    assert document.parse(after.encode(), FILE)[0].data == document.parse(text.encode(), FILE)[0].data
    marks = re.compile(r"# (?:comment \d+|head|end)\b")
    assert sorted(marks.findall(after)) == sorted(marks.findall(text))
    assert formatted(after) == after


UNTIDY = """\
# yaml-language-server: $schema=x
kind:   Policy
apiVersion: extauthz.dev/v1
rules:
# About the rule.
- access:
  - namespace: a   # the namespace
    verb: get
    # The resource.
    resource: pods
  # Why it is asked.
  match:
      methods: [ GET,POST ]
      path: /x
  name: 'one'
- {name: two, match: {path: /y}, deny: "no"}
"""


def test_the_layout() -> None:
    """Keys in the order of the language, what a rule answers last, two spaces, and comments with their keys."""
    after = formatted(UNTIDY)
    assert after.startswith("# yaml-language-server: $schema=x\napiVersion: extauthz.dev/v1\nkind: Policy\nrules:\n")
    keys = [line.strip(" -").partition(":")[0] for line in after.splitlines() if ":" in line and "#" not in line[:1]]
    assert keys[3:] == ["name", "match", "path", "methods", "access", "verb", "resource", "namespace", "{name"]
    assert "    match:\n      path: /x\n      methods: [GET, POST]\n" in after
    assert after.index("# Why it is asked.") < after.index("match:") < after.index("# The resource.")
    assert "# the namespace" in next(line for line in after.splitlines() if "namespace: a" in line)


SHIPPED = sorted((REPOSITORY / "policies" / "kubeflow").glob("*.yaml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_policies_are_formatted(file: Path) -> None:
    """What we ship is what `extauthz fmt` writes."""
    assert layout.formatted(file.read_bytes(), file) == file.read_text()


def test_several_documents(tmp_path: Path) -> None:
    """Each is formatted, a shadow too."""
    shadow = "kind: Shadow\napiVersion: extauthz.dev/v1\nnamespaces: [a]\n"
    after = formatted(UNTIDY + "---\n# about the shadow\n" + shadow)
    assert after.endswith("apiVersion: extauthz.dev/v1\nkind: Shadow\nnamespaces: [a]\n")
    assert "# about the shadow" in after
    assert formatted(after) == after


def test_what_cannot_be_kept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout that would lose a comment, change a value or never come to an end is not written."""
    monkeypatch.setattr(layout, "_laid_out", lambda text, file: text.replace("# About the rule.\n", ""))
    with pytest.raises(ConfigurationError, match="without changing it"):
        formatted(UNTIDY)
    monkeypatch.setattr(layout, "_laid_out", lambda text, file: text.replace("/x", "/z"))
    with pytest.raises(ConfigurationError, match="without changing it"):
        formatted(UNTIDY)
    monkeypatch.setattr(layout, "_laid_out", lambda text, file: f"{text}\n")
    with pytest.raises(ConfigurationError, match="no layout of it is final"):
        formatted(UNTIDY)
