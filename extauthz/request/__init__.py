"""What is asked: one canonical reading of a request, or the faults that make it ambiguous.

A gateway that reads a path differently from the server behind it can be walked around, so
nothing is ever rewritten here. A request that two servers could read in two ways carries
`faults`; it is refused unless its rule tolerates exactly those faults in the part of the
path that decides nothing. Reading never raises: whatever arrives becomes a `Request`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from extauthz.basis import sent
from extauthz.errors import Refused
from extauthz.request.faults import WHOLE_REQUEST, Fault
from extauthz.request.spelling import camel_case, header_spellings
from extauthz.request.target import read_target

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that are passed on. Tokens are case-sensitive; those that tunnel, mirror or are unknown are not."""

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
OVERRIDES = frozenset(
    spelling
    for name in ("x-http-method-override", "x-http-method", "x-method-override")
    for spelling in header_spellings(name)
)
"""Headers that ask a server to run another method, in every spelling."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Body:
    """A request body as far as Envoy showed it.

    `content` is None when the body was not shown whole; `problem` then says why, in the
    form of a reason code.
    """

    content: bytes | None = b""
    problem: str = ""


EMPTY_BODY = Body()


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

    @property
    def id(self) -> str:
        """The id that Envoy gave the request; empty where it is none."""
        value = self.headers.get("x-request-id", "")
        return value if _ID.fullmatch(value) else ""

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
    read = read_target(target)
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


def _envelope_faults(method: str, target: str, headers: Mapping[str, str]) -> tuple[tuple[Fault, int], ...]:
    """Return what is wrong beside the target: the method, and headers that change what it or the target mean."""
    found = []
    if method not in METHODS:
        found.append(Fault.METHOD)
    if sent(headers, OVERRIDES):
        found.append(Fault.METHOD_OVERRIDE)
    if headers.get(":path", target) != target or headers.get(":method", method) != method:
        found.append(Fault.TARGET_MISMATCH)
    if method not in _BODILESS and "x-www-form-urlencoded" in headers.get("content-type", "").lower():
        found.append(Fault.FORM_BODY)
    return tuple((fault, WHOLE_REQUEST) for fault in found) if found else ()
