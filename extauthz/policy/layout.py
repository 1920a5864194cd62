"""The one layout of policy files: the order of keys, indentation and spacing, with every comment kept.

Keys of block mappings come in the order of the policy language's schema; mappings in braces
stay as they were written. Comments on the lines above a key go with it.

Promises: what the file means is the same before and after, nothing of it is lost, and what
is formatted once stays as it is; a file of which that cannot be said is refused.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from extauthz import document
from extauthz.document import Document, Location
from extauthz.errors import ConfigurationError, Problem
from extauthz.policy.model import Check, MatchModel, PolicyModel, RequirementModel, RuleModel, ShadowModel

MAX_PASSES = 5

_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.MULTILINE)
_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): PolicyModel,
    ("rules",): RuleModel,
    ("rules", "match"): MatchModel,
    ("rules", "access"): Check,
    ("rules", "require"): RequirementModel,
}
"""What stands where, by the keys that lead there."""
_ANSWERS = ("allow", "access", "deny", "rules")


def is_policy(part: Document) -> bool:
    """Whether a document is one that is formatted."""
    return isinstance(part.data, dict) and part.data.get("kind") in ("Policy", "Shadow")


def formatted(content: bytes, file: Path) -> str:
    """Return the text of a policy file in its one layout. Raises ConfigurationError where it cannot be kept whole."""
    before = document.parse(content, file)
    text = before_pass = content.decode()
    for _ in range(MAX_PASSES):
        text = _laid_out(_ordered(before_pass, file), file)
        if text == before_pass:
            break
        before_pass = text
    else:
        raise ConfigurationError(Problem("cannot be formatted: no layout of it is final", file))
    after = document.parse(text.encode(), file)
    if [part.data for part in before] != [part.data for part in after] or lost(content.decode(), text):
        raise ConfigurationError(Problem("cannot be formatted without changing it", file, hint="format it by hand"))
    return text


def lost(before: str, after: str) -> bool:
    """Whether some comment is not in both texts."""
    return _comments(before) != _comments(after)


def _comments(text: str) -> Counter[str]:
    """Return the comments of a text; what looks like one inside a value is none."""
    characters = list(text)
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.ScalarEvent) and event.start_mark and event.end_mark:
            span = slice(event.start_mark.index, event.end_mark.index)
            characters[span] = re.sub(r"\S", "x", text[span])
    return Counter(map(str.strip, _COMMENT.findall("".join(characters))))


def _laid_out(text: str, file: Path) -> str:
    round_trip = YAML(typ="rt")
    round_trip.preserve_quotes = True
    round_trip.brace_single_entry_mapping_in_flow_sequence = True
    round_trip.width = 2**20
    round_trip.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    try:
        round_trip.dump_all(list(round_trip.load_all(text)), stream)
    except YAMLError as error:
        raise ConfigurationError(Problem(f"cannot be formatted: {error}", file)) from error
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().rstrip().split("\n"))


def _ordered(text: str, file: Path) -> str:
    """Return a text with the keys of its block mappings in order."""
    lines = text.split("\n")
    for part in document.parse(text.encode(), file):
        # The innermost first: what moves within a mapping moves no line out of it.
        for place in sorted(_places(part), key=len, reverse=True):
            _order(lines, part, place)
    return "\n".join(lines)


def _places(part: Document) -> Iterator[Location]:
    """Yield where a mapping stands whose keys have an order."""
    for place in part.positions:
        if _model(place, part) and isinstance(_value(part, place), dict):
            yield place


def _model(place: Location, part: Document) -> type[BaseModel] | None:
    if part.data.get("kind") == "Shadow":
        return ShadowModel if not place else None
    return _MODELS.get(tuple(key for key in place if isinstance(key, str)))


def _value(part: Document, place: Location) -> object:
    value = part.data
    for key in place:
        value = value[key]
    return value


def _order(lines: list[str], part: Document, place: Location) -> None:
    """Put the keys of one mapping in order, where each has lines of its own."""
    model, mapping = _model(place, part), _value(part, place)
    if model is None or not isinstance(mapping, dict):
        return
    positions = {key: part.positions[*place, key] for key in mapping}
    wanted = sorted(mapping, key=_rank(model))
    rows = [line - 1 for line, _ in positions.values()]
    columns = {column - 1 for _, column in positions.values()}
    if wanted == list(mapping) or len(columns) > 1 or len(set(rows)) < len(rows):
        return
    (column,) = columns
    first, marker = rows[0], lines[rows[0]][:column]
    if marker.strip() not in ("", "-"):
        return  # a mapping in braces
    lines[first] = " " * column + lines[first][column:]
    starts = [first, *(_with_comments(lines, row, column) for row in rows[1:])]
    ends = [*starts[1:], _end(lines, rows[-1], column)]
    chunks = dict(zip(mapping, (lines[start:end] for start, end in zip(starts, ends, strict=True)), strict=True))
    moved = [line for key in wanted for line in chunks[key]]
    lines[first : ends[-1]] = _marked(moved, marker, column)


def _marked(moved: Sequence[str], marker: str, column: int) -> list[str]:
    """Give an item of a list its dash, on its first line that is no comment."""
    if not marker.strip():
        return list(moved)
    at = next(index for index, line in enumerate(moved) if not line.lstrip().startswith("#"))
    above = [marker.replace("-", " ")[: marker.index("-")] + line.lstrip() for line in moved[:at]]
    return [*above, marker + moved[at][column:], *moved[at + 1 :]]


def _rank(model: type[BaseModel]) -> Callable[[str], tuple[bool, int]]:
    """Return the order of a model's keys: the schema's, but what a rule answers comes last."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    return lambda name: (name in _ANSWERS, names.index(name))


def _with_comments(lines: Sequence[str], row: int, column: int) -> int:
    """Return where a key begins, the comments right above it included."""
    while row > 0 and lines[row - 1].startswith(" " * column + "#"):
        row -= 1
    return row


def _end(lines: Sequence[str], row: int, column: int) -> int:
    """Return the line after the last one of the mapping that a key is the last of."""
    end = row + 1
    for number in range(row + 1, len(lines)):
        text = lines[number].lstrip()
        indent = len(lines[number]) - len(text)
        # The dashes of a list may stand right below its key.
        if text and (indent < column or (indent == column and not text.startswith(("- ", "#")))):
            break
        if text and (indent > column or not text.startswith("#")):
            end = number + 1
    return end
