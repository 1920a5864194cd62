"""The JSON body, where a rule reads it: whole, UTF-8, and readable in one way only.

Parsers differ on duplicate names, on what follows the first value, on byte order marks and
on letter case; a body that uses any of that is refused instead of interpreted.
"""

from __future__ import annotations

import json
import re
from typing import Any

from extauthz.errors import Refused
from extauthz.request import Request
from extauthz.request.spelling import camel_case

MAX_DEPTH = 128
"""How many objects and arrays may stand inside each other; no client of Kubeflow comes near it."""

_FOREIGN_CHARSET = re.compile(r"charset\s*=\s*(?!\s|\"?utf-?8\"?\s*(?:;|$))", re.IGNORECASE)


def document(request: Request) -> dict[str, Any]:
    """Return the body of a request as a JSON object; no body is an empty object. Raises Refused."""
    content = request.body.content
    if content is None:
        raise Refused(request.body.problem, "The body was not shown whole, so its values cannot be checked.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused("body_encoded", "A compressed body cannot be checked.")
    if _FOREIGN_CHARSET.search(request.headers.get("content-type", "")):
        raise Refused("body_charset", "The body must be UTF-8.")
    if not content:
        return {}
    value = _parse(content)
    if not isinstance(value, dict):
        raise Refused("body_not_object", "The body must be a JSON object.")
    return value


def member(value: Any, token: str) -> Any:
    """Return one member of an object (by name) or of an array (by index); None where it is absent.

    Raises Refused where names differ only in spelling, since decoders disagree on which counts.
    """
    if isinstance(value, list):
        return value[int(token)] if token.isdecimal() and token.isascii() and int(token) < len(value) else None
    if not isinstance(value, dict):
        raise Refused("body_not_object", f"The body has no object to read {token!r} from.")
    folded = _fold(token)
    spellings = [name for name in value if _fold(name) == folded]
    if not spellings:
        return None
    if len(spellings) > 1 or spellings[0] not in (token, camel_case(token)):
        raise Refused("body_spelling", f"The body spells {token!r} in an unexpected way.")
    return value[spellings[0]]


def _parse(content: bytes) -> Any:
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_not_json)
    except UnicodeDecodeError:
        raise Refused("body_invalid_utf8", "The body is not valid UTF-8.") from None
    except (ValueError, RecursionError):
        raise Refused("body_not_json", "The body is not a single JSON document.") from None
    if content.count(b"{") + content.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise Refused("body_too_deep", f"The body nests more than {MAX_DEPTH} objects and arrays.")
    return value


def _depth(value: Any) -> int:
    """Return how many objects and arrays stand inside each other."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [part for each in level for part in (each.values() if isinstance(each, dict) else each)]
    return depth


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("body_duplicate_name", "The body names one member more than once.")
    return found


def _not_json(constant: str) -> Any:
    raise ValueError(constant)


def _fold(name: str) -> str:
    # Go's encoding/json folds letters as Unicode does: U+017F reads as "s".
    return name.replace("_", "").casefold()
