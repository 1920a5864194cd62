"""What is asked: one canonical reading of a request, or the faults that make it ambiguous.

A gateway that reads a path differently from the server behind it can be walked around, so
nothing is ever rewritten here. A request that two servers could read in two ways carries
`faults`; it is refused unless its rule tolerates exactly those faults in the part of the
path that decides nothing. Reading never raises: whatever arrives becomes a `Request`.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from extauthz.errors import Refused

MAX_TARGET_BYTES = 16384
MAX_KNOWN_TARGET_BYTES = 1024
MAX_KNOWN_PARTS = 32
MAX_SEGMENTS = 256
MAX_PARAMETERS = 256
MAX_ENCODINGS = 8
"""How often a segment may be percent-encoded before nobody looks any deeper: each level costs a pass over it."""


class Fault(StrEnum):
    """Why a request is ambiguous. The value is the reason code of the refusal."""

    METHOD = "method_not_allowed"
    METHOD_OVERRIDE = "method_override"
    TARGET_FORM = "target_not_origin_form"
    TARGET_MISMATCH = "target_mismatch"
    TARGET_TOO_LONG = "target_too_long"
    FRAGMENT = "fragment"
    CONTROL = "control_character"
    RAW_NON_ASCII = "raw_non_ascii"
    BACKSLASH = "backslash"
    INVALID_UTF8 = "invalid_utf8"
    BAD_ESCAPE = "bad_percent_encoding"
    DOT_SEGMENT = "dot_segment"
    PATH_CASE = "path_case"
    TRAILING_SLASH = "trailing_slash"
    EMPTY_SEGMENT = "empty_segment"
    ENCODED_SLASH = "encoded_slash"
    ENCODED_DELIMITER = "encoded_delimiter"
    ENCODED_UNRESERVED = "encoded_unreserved"
    DOUBLE_ENCODING = "double_encoding"
    PATH_PARAMETER = "path_parameter"
    UNSAFE_CHARACTER = "unsafe_character"
    QUERY_TOO_MANY = "query_too_many"
    QUERY_DUPLICATE = "query_duplicate"
    QUERY_SPELLING = "query_spelling"
    QUERY_SEMICOLON = "query_semicolon"
    QUERY_CONTROL = "query_control_character"
    QUERY_INVALID_UTF8 = "query_invalid_utf8"
    QUERY_BAD_ESCAPE = "query_bad_percent_encoding"
    FORM_BODY = "form_content_type"


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that are passed on. Tokens are case-sensitive; those that tunnel, mirror or are unknown are not."""

TOLERABLE = frozenset(
    {
        Fault.EMPTY_SEGMENT,
        Fault.ENCODED_SLASH,
        Fault.ENCODED_DELIMITER,
        Fault.ENCODED_UNRESERVED,
        Fault.DOUBLE_ENCODING,
        Fault.PATH_PARAMETER,
        Fault.UNSAFE_CHARACTER,
        Fault.QUERY_DUPLICATE,
        Fault.QUERY_SPELLING,
        Fault.QUERY_SEMICOLON,
        Fault.FORM_BODY,
    }
)
"""The faults that a rule may tolerate, because below its fixed prefix only the prefix decides."""

STATUS = {Fault.METHOD: 403, Fault.TARGET_MISMATCH: 403}
"""Statuses other than 400: these requests are understood, and never passed on."""

WHOLE_REQUEST = -1
"""The place of a fault that stands in no path segment."""

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
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
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Body:
    """A request body as far as Envoy showed it.

    `content` is None when the body was not shown whole; `problem` then says why, in the
    form of a reason code.
    """

    content: bytes | None = b""
    problem: str = ""


EMPTY_BODY = Body()


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A request target, read: what it says, and in which ways it is ambiguous."""

    path: str
    segments: tuple[str, ...]
    parameters: Mapping[str, str]
    unreadable_parameters: frozenset[str]
    faults: tuple[tuple[Fault, int], ...]


# Not frozen only because that would cost two microseconds a check.
@dataclass(slots=True, eq=False)
class Request:
    """One HTTP request as the upstream will see it.

    `target` is the raw path and query, `path` the raw path alone; `segments` are its raw
    parts after the first slash, so `/a/b/` has the segments `a`, `b` and an empty last one.
    `parameters` are the decoded query parameters. `headers` have lower-case names; Envoy
    joins duplicates with a comma. `peer` is the mTLS principal of the caller, or empty.
    `faults` pairs each fault with the index of its segment, or WHOLE_REQUEST.
    """

    method: str
    target: str
    path: str
    segments: tuple[str, ...]
    parameters: Mapping[str, str]
    unreadable_parameters: frozenset[str]
    headers: Mapping[str, str]
    host: str
    body: Body
    peer: str
    faults: tuple[tuple[Fault, int], ...]

    def parameter(self, name: str) -> str | None:
        """Return a query parameter, in the spelling given or in its camelCase twin.

        Protobuf JSON gateways read both `experiment_id` and `experimentId`. Raises Refused
        where the request gives several values, which only a tolerant rule lets come this far.
        """
        for spelling in dict.fromkeys((name, camel_case(name))):
            if spelling in self.unreadable_parameters:
                raise Refused(Fault.QUERY_DUPLICATE, f"the query names {spelling!r} more than once")
        twins = [self.parameters[key] for key in dict.fromkeys((name, camel_case(name))) if key in self.parameters]
        if len(twins) > 1:
            raise Refused(Fault.QUERY_SPELLING, f"the query spells {name!r} in two ways")
        return twins[0] if twins else None


def read(
    *,
    method: str,
    target: str,
    headers: Mapping[str, str],
    host: str = "",
    body: Body = EMPTY_BODY,
    peer: str = "",
) -> Request:
    """Read a request. `target` is the origin-form request target, path and query.

    Never raises; what cannot be read in one way only is told in `Request.faults`.
    """
    read = _known_target(target) if is_worth_knowing(target) else _read_target(target)
    return Request(
        method,
        target,
        read.path,
        read.segments,
        read.parameters,
        read.unreadable_parameters,
        headers,
        host,
        body,
        peer,
        _envelope_faults(method, target, headers) + read.faults,
    )


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


# Browsers and SDKs poll the same targets.
_known_target = lru_cache(maxsize=4096)(_read_target)


def is_worth_knowing(target: str) -> bool:
    """Whether a target takes little memory once it is read: anybody can send what is remembered here."""
    return len(target) <= MAX_KNOWN_TARGET_BYTES and target.count("/") + target.count("&") <= MAX_KNOWN_PARTS


_NO_PARAMETERS: Mapping[str, str] = {}
_NONE: frozenset[str] = frozenset()


def refusal(fault: Fault) -> Refused:
    """Return the refusal that a fault becomes where no rule tolerates it."""
    return Refused(fault, describe(fault), status=STATUS.get(fault, 400))


def describe(fault: Fault) -> str:
    """Say in one sentence what a fault means, for the caller and the docs."""
    return _SENTENCES[fault]


def header_spellings(name: str) -> list[str]:
    """Return every spelling of a header name that a CGI-like server reads as the same one, itself first."""
    parts = name.split("-")
    joints = itertools.product("-_", repeat=len(parts) - 1)
    return ["".join(itertools.chain(*zip(parts, (*joint, ""), strict=True))) for joint in joints]


def camel_case(name: str) -> str:
    """Return the protobuf JSON name of a snake_case field: `experiment_id` is `experimentId`."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def snake_case(name: str) -> str:
    """Return the snake_case name of a protobuf JSON field; what is no camelCase stays as it is."""
    return _CAMEL.sub("_", name).lower() if name[:1].islower() and not name.islower() else name


def _envelope_faults(method: str, target: str, headers: Mapping[str, str]) -> tuple[tuple[Fault, int], ...]:
    """Return what is wrong beside the target: the method, and headers that change what it or the target mean."""
    found = []
    if method not in METHODS:
        found.append(Fault.METHOD)
    if not _OVERRIDES.isdisjoint(headers):
        found.append(Fault.METHOD_OVERRIDE)
    if headers.get(":path", target) != target or headers.get(":method", method) != method:
        found.append(Fault.TARGET_MISMATCH)
    if method not in _BODILESS and "x-www-form-urlencoded" in headers.get("content-type", "").lower():
        found.append(Fault.FORM_BODY)
    return tuple((fault, WHOLE_REQUEST) for fault in found) if found else ()


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
    spellings = [snake_case(name) for name in names if "_" in name or not name.islower()]
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


_OVERRIDES = frozenset(
    spelling
    for name in ("x-http-method-override", "x-http-method", "x-method-override")
    for spelling in header_spellings(name)
)

_SENTENCES: Mapping[Fault, str] = {
    Fault.METHOD: "The request method is not one that is passed on.",
    Fault.METHOD_OVERRIDE: "A header asks the server to run another method than the one that was checked.",
    Fault.TARGET_FORM: "The request target must be a path that starts with a slash.",
    Fault.TARGET_MISMATCH: "The request's headers contradict its target.",
    Fault.TARGET_TOO_LONG: f"The path and query are longer than {MAX_TARGET_BYTES} bytes or {MAX_SEGMENTS} segments.",
    Fault.FRAGMENT: "The request target holds a fragment (#).",
    Fault.CONTROL: "The path holds a control character.",
    Fault.RAW_NON_ASCII: "The path holds bytes that must be percent-encoded.",
    Fault.BACKSLASH: "The path holds a backslash.",
    Fault.INVALID_UTF8: "The path is not valid UTF-8 when decoded.",
    Fault.BAD_ESCAPE: "The path holds a percent sign without two hexadecimal digits.",
    Fault.DOT_SEGMENT: "The path holds a dot segment.",
    Fault.PATH_CASE: "The path differs only in letter case from one with its own rule.",
    Fault.TRAILING_SLASH: "The path differs only in its last slash from one with its own rule.",
    Fault.EMPTY_SEGMENT: "The path holds an empty segment (//).",
    Fault.ENCODED_SLASH: "The path holds an encoded slash.",
    Fault.ENCODED_DELIMITER: "The path holds an encoded question mark, number sign or semicolon.",
    Fault.ENCODED_UNRESERVED: "The path percent-encodes a character that needs no encoding.",
    Fault.DOUBLE_ENCODING: "The path is percent-encoded twice.",
    Fault.PATH_PARAMETER: "The path holds a parameter (;).",
    Fault.UNSAFE_CHARACTER: "The path holds a character that must be percent-encoded.",
    Fault.QUERY_TOO_MANY: f"The query has more than {MAX_PARAMETERS} parameters.",
    Fault.QUERY_DUPLICATE: "The query names one parameter more than once.",
    Fault.QUERY_SPELLING: "The query gives one parameter in snake_case and in camelCase.",
    Fault.QUERY_SEMICOLON: "The query holds a semicolon.",
    Fault.QUERY_CONTROL: "The query holds a control character.",
    Fault.QUERY_INVALID_UTF8: "The query is not valid UTF-8 when decoded.",
    Fault.QUERY_BAD_ESCAPE: "The query holds a percent sign without two hexadecimal digits.",
    Fault.FORM_BODY: "Form bodies are not accepted here, since servers read them as other methods.",
}
