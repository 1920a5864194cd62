"""A request target, read once: its path and its query, and in which ways they are ambiguous.

Reading never raises and rewrites nothing: whatever arrives becomes a `Target`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from extauthz.request.faults import MAX_PARAMETERS, MAX_SEGMENTS, MAX_TARGET_BYTES, WHOLE_REQUEST, Fault
from extauthz.request.spelling import snake_case

MAX_KNOWN_TARGET_BYTES = 1024
MAX_KNOWN_PARTS = 32
MAX_ENCODINGS = 8
"""How often a segment may be percent-encoded before nobody looks any deeper: each level costs a pass over it."""

_PLAIN_PATH = re.compile(
    r"/(?:(?:(?!\.\.?(?:/|\Z))[A-Za-z0-9._~!$&'()*+,=:@-]+/)*(?!\.\.?\Z)[A-Za-z0-9._~!$&'()*+,=:@-]*)"
)
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_SEGMENT_CHARACTERS = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%\\-]*")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TWICE = re.compile(r"%25[0-9A-Fa-f]{2}")
_ESCAPED: Mapping[int, Fault] = {
    **dict.fromkeys(_UNRESERVED, Fault.ENCODED_UNRESERVED),
    **dict.fromkeys(b"?#;", Fault.ENCODED_DELIMITER),
    ord("/"): Fault.ENCODED_SLASH,
    ord("\\"): Fault.BACKSLASH,
}
_DOTS = re.compile(r"(?:\A|[/\\])\s*\.{1,2}\s*(?:[;/\\]|\Z)")
_NO_PARAMETERS: Mapping[str, str] = {}
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A request target, read: what it says, and in which ways it is ambiguous."""

    path: str
    segments: tuple[str, ...]
    parameters: Mapping[str, str]
    unreadable_parameters: frozenset[str]
    faults: tuple[tuple[Fault, int], ...]


def read_target(target: str) -> Target:
    """Read a target; those that take little memory are read once, since browsers and SDKs poll the same ones."""
    return _known_target(target) if is_worth_knowing(target) else _read_target(target)


def is_worth_knowing(target: str) -> bool:
    """Whether a target takes little memory once it is read: anybody can send what is remembered here."""
    return len(target) <= MAX_KNOWN_TARGET_BYTES and target.count("/") + target.count("&") <= MAX_KNOWN_PARTS


def _read_target(target: str) -> Target:
    path, mark, query = target.partition("?")
    faults: list[tuple[Fault, int]] = []
    if len(target) > MAX_TARGET_BYTES or path.count("/") > MAX_SEGMENTS:
        faults.append((Fault.TARGET_TOO_LONG, WHOLE_REQUEST))
        path, mark, query = "/", "", ""
    elif _PLAIN_PATH.fullmatch(path) is None:
        faults += _path_faults(path)
    segments = tuple(path.split("/")[1:]) if path.startswith("/") else ()
    parameters, repeated = (_parameters(query, faults)) if mark and query else (_NO_PARAMETERS, _NONE)
    return Target(path, segments, parameters, repeated, tuple(faults))


_known_target = lru_cache(maxsize=4096)(_read_target)


def _path_faults(path: str) -> Iterator[tuple[Fault, int]]:
    if not path.startswith("/"):
        yield Fault.TARGET_FORM, WHOLE_REQUEST
        return
    if "#" in path:
        yield Fault.FRAGMENT, WHOLE_REQUEST
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        if not segment:
            if index < len(segments) - 1:
                yield Fault.EMPTY_SEGMENT, index
            continue
        for fault in dict.fromkeys(_segment_faults(segment)):
            yield fault, index


def _segment_faults(segment: str) -> Iterator[Fault]:
    if not segment.isascii():
        yield Fault.RAW_NON_ASCII
        return  # whoever passes on such bytes may read anything into them
    if "\\" in segment:
        yield Fault.BACKSLASH
    if ";" in segment:
        yield Fault.PATH_PARAMETER
    if any(character < " " or character == "\x7f" for character in segment):
        yield Fault.CONTROL
    elif _SEGMENT_CHARACTERS.fullmatch(segment) is None:
        yield Fault.UNSAFE_CHARACTER
    if _BAD_ESCAPE.search(segment):
        yield Fault.BAD_ESCAPE
        return  # decoders differ on what it means, so nothing can be said of the rest
    if "%" in segment:
        yield from _escape_faults(segment)
    if _has_dots(segment):
        yield Fault.DOT_SEGMENT


def _escape_faults(segment: str) -> Iterator[Fault]:
    for digits in dict.fromkeys(_ESCAPE.findall(segment)):
        if fault := _ESCAPED.get(int(digits, 16)):
            yield fault
    if _TWICE.search(segment):
        yield Fault.DOUBLE_ENCODING
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        yield Fault.INVALID_UTF8
    else:
        if _has_controls(text):
            yield Fault.CONTROL


def _has_dots(segment: str) -> bool:
    """Whether any reader, however often it decodes, could see `.` or `..` in this segment."""
    text = segment
    for _ in range(MAX_ENCODINGS):
        decoded = unquote_to_bytes(text).decode("latin-1") if "%" in text else text
        if decoded == text:
            return _DOTS.search(text) is not None
        text = decoded
    return True


def _has_controls(text: str) -> bool:
    return not text.isprintable() and any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)


def _parameters(query: str, faults: list[tuple[Fault, int]]) -> tuple[Mapping[str, str], frozenset[str]]:
    """Decode a query as `application/x-www-form-urlencoded`, adding its faults."""
    found: dict[str, str] = {}
    repeated: set[str] = set()
    problems: list[Fault] = []
    pairs = query.split("&", MAX_PARAMETERS)
    if len(pairs) > MAX_PARAMETERS:
        faults.append((Fault.QUERY_TOO_MANY, WHOLE_REQUEST))
        return found, _NONE
    if ";" in query:
        problems.append(Fault.QUERY_SEMICOLON)
    if "#" in query:
        problems.append(Fault.FRAGMENT)
    for pair in pairs:
        if not pair:
            continue
        name, _, value = pair.partition("=")
        name, value = _decoded(name, problems), _decoded(value, problems)
        if name in found:
            repeated.add(name)
        found[name] = value
    if repeated:
        problems.append(Fault.QUERY_DUPLICATE)
    if _spelled_twice(found):
        problems.append(Fault.QUERY_SPELLING)
    faults += ((fault, WHOLE_REQUEST) for fault in dict.fromkeys(problems))
    return found, frozenset(repeated)


def _spelled_twice(names: Iterable[str]) -> bool:
    spellings = [snake_case(name) for name in names if not name.islower()]
    if not spellings:
        return False
    everything = [snake_case(name) for name in names]
    return any(everything.count(spelling) > 1 for spelling in spellings)


def _decoded(text: str, problems: list[Fault]) -> str:
    if text.isalnum() and text.isascii():
        return text
    if not text.isascii():
        problems.append(Fault.QUERY_INVALID_UTF8)
        return ""
    if "%" in text or "+" in text:
        if _BAD_ESCAPE.search(text):
            problems.append(Fault.QUERY_BAD_ESCAPE)
            return ""
        text = _utf8(unquote_to_bytes(text.replace("+", " ")), problems)
    if _has_controls(text):
        problems.append(Fault.QUERY_CONTROL)
    return text


def _utf8(content: bytes, problems: list[Fault]) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        problems.append(Fault.QUERY_INVALID_UTF8)
        return ""
