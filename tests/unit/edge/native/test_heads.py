"""Heads that are known but for their request id."""

from __future__ import annotations

from dataclasses import replace

import pytest

from extauthz.edge.asked import Asked
from extauthz.edge.native import heads
from extauthz.edge.native.heads import HeadKeys
from extauthz.edge.native.requests import Http1Limits, Incoming, RequestReader
from tests.issuer import Issuer, bearer
from tests.unit.edge.native.world import Raw, World

RUNS = Raw("GET", "/runs?namespace=team-a", list(bearer(Issuer().token()).items()))
IDS = [
    *("", " ", "a b", "a,b", "a\r", "\ra", "a\rb", "a\nb", "a\n", "\0", "a\0", "\t", "a\r\n", "é", "٣", "a\r\n folded"),
    *("a\r\ncontent-length: 4", "a\r\nkubeflow-userid: bob", "a\r\nx-request-id: b", "a\nconnection: close", "a" * 300),
    *("a\r\n\r\nGET /public HTTP/1.1", "a\r\nhost: other", "a\r\ntransfer-encoding: chunked", "a-1", "-", "A1"),
]


def head(*lines: str) -> bytes:
    return "\r\n".join(["GET / HTTP/1.1", "host: a", *lines, "", ""]).encode()


def incoming(content: bytes) -> Incoming:
    reader = RequestReader(Http1Limits(), 64)
    reader.feed(content)
    (asked,) = reader.ready
    assert isinstance(asked, Asked)
    return asked


@pytest.mark.parametrize("at", [0, 1], ids=["first", "last"])
@pytest.mark.parametrize("request_id", IDS)
async def test_whatever_stands_for_the_id_is_answered_as_without_a_memory(
    world: World, request_id: str, at: int
) -> None:
    """What ends the line, adds one or cannot be read is no id, whatever surrounds it."""
    first, other = (
        replace(RUNS, lines=[*RUNS.lines[:at], ("x-request-id", text), *RUNS.lines[at:]])
        for text in ("6f3c-1", request_id)
    )
    for _ in range(4):
        await world.over_http1(first)
    assert world.http1.recall(first.bytes)
    for _ in range(2):
        await world.over_http1(other)


def test_another_id_makes_no_other_key() -> None:
    keys = HeadKeys()
    key = keys.of(incoming(head("x-request-id: 1", "x-team: a")))
    assert key is not None
    assert keys.of_head(head("x-request-id: 2-b", "x-team: a")) == (key, b"2-b")
    other = keys.of_head(head("x-request-id: 2-b", "connection: keep-alive"))
    assert other is not None
    assert other[0] != key


def test_an_id_that_decisions_read_is_part_of_the_key() -> None:
    """Also where heads were found without a look at it before."""
    keys = HeadKeys()
    first = incoming(head("x-request-id: 1"))
    keys.of(first)
    keys.expect(frozenset({"x-request-id"}), frozenset())
    found = keys.of(first)
    other = keys.of_head(head("x-request-id: 2"))
    assert found is not None
    assert other is not None
    assert other[0] != found


def test_heads_that_are_found_whole_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In number and size; those beyond are found by their lines."""
    monkeypatch.setattr(heads, "MAX_WHOLE", 3)
    keys = HeadKeys()
    for number in range(10):
        keys.of(incoming(head(f"x-request-id: {number}", f"x-team: {number}")))
        assert 1 <= len(keys._whole) <= 3
    keys = HeadKeys()
    long = head("x-request-id: 1", "x-team: " + "y" * heads.MAX_WHOLE_BYTES)
    key = keys.of(incoming(long))
    assert not keys._whole
    assert keys.of_head(long.replace(b"-id: 1", b"-id: 2")) == (key, b"2")
