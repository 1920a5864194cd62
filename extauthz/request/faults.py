"""In which ways a request can be ambiguous, and what is said where that refuses it.

The codes are part of what users see: in answers, in metrics and in the policy's `tolerate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from extauthz.errors import Refused

MAX_TARGET_BYTES = 16384
MAX_SEGMENTS = 256
MAX_PARAMETERS = 256


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


def refusal(fault: Fault) -> Refused:
    """Return the refusal that a fault becomes where no rule tolerates it."""
    return Refused(fault, describe(fault), status=STATUS.get(fault, 400))


def describe(fault: Fault) -> str:
    """Say in one sentence what a fault means, for the caller and the docs."""
    return _SENTENCES[fault]


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
