"""What the memory of allows rests on, one ground at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest

from extauthz.edge import check
from extauthz.edge.native import memory
from extauthz.edge.native.h2.message import Response
from tests.issuer import NOW, Issuer, bearer, rsa_key
from tests.unit.edge.native.test_memory_law import NAMES, SOUND, VALUES
from tests.unit.edge.native.world import CACHE, Raw, World, never

ISSUER = Issuer()
RUNS = Raw("GET", "/runs?namespace=team-a", list(bearer(ISSUER.token()).items()))


def recalled(world: World, raw: Raw) -> Response | None:
    """Return what is remembered of a request."""
    checks = world.grpc._checks
    key = checks._keys.of(check.decoded(raw.message))
    return None if key is None else checks.recall(key, "", never)


async def remember(world: World, raw: Raw) -> None:
    """Ask until the answer is remembered by both edges."""
    for _ in range(4):
        await world.over_grpc(raw)
        await world.over_http1(raw)
    assert recalled(world, raw), raw
    assert raw.peer or world.http1.recall(raw.bytes), raw


async def test_what_was_allowed_is_remembered(world: World) -> None:
    """Each of these requests is answered again without being decided; a trace id does not matter."""
    for raw in SOUND:
        if raw.lines[:1] != [("authorization", f"Bearer {ISSUER.token(aud='other')}")] and "key-2" not in str(raw):
            for _ in range(4):
                await world.over_grpc(raw)
    await remember(world, RUNS)
    traced = replace(RUNS, lines=[*RUNS.lines, ("traceparent", "00-1"), ("x-request-id", "7")])
    assert recalled(world, traced)
    assert world.http1.recall(traced.bytes)


@pytest.mark.parametrize("name", sorted(set(NAMES)))
async def test_a_header_that_can_change_the_answer_is_never_overlooked(world: World, name: str) -> None:
    """Whatever is remembered, a further line of any header is answered as it is without a memory."""
    for raw in (RUNS, SOUND[10], SOUND[11], SOUND[13], SOUND[14]):
        await remember(world, raw)
        for value in VALUES:
            for lines in ([*raw.lines, (name, value)], [(name, value), *raw.lines]):
                other = replace(raw, lines=lines)
                await world.over_grpc(other)
                await world.over_http1(other)


CHANGES: list[Callable[[World], None]] = [
    lambda world: setattr(world.gateway, "policy", world.gateway.policy),
    lambda world: world.generations.raise_for([("User", "alice")]),
    lambda world: world.generations.raise_for([("Namespace", "team-a")]),
    lambda world: world.generations.raise_all(),
    lambda world: setattr(world.generations, "watched", False),
    lambda world: world.generations.tell_answering(False),
    lambda world: world.pass_time(CACHE.allow_seconds),
    lambda world: setattr(world.wall, "now", NOW + 600),
    lambda world: setattr(world.authenticator.tokens._stores[0], "latest", None),
]


@pytest.mark.parametrize("change", range(len(CHANGES)))
async def test_whatever_an_answer_rests_on_ends_it(world: World, change: int) -> None:
    """A policy, an event, the watch, the API server, the times of review and token, and the issuer's keys."""
    await remember(world, RUNS)
    CHANGES[change](world)
    assert recalled(world, RUNS) is None
    assert world.http1.recall(RUNS.bytes) is None


@pytest.mark.parametrize(
    "line", [("connection", "close"), ("connection", "upgrade"), ("Connection", "keep-alive, close")]
)
async def test_a_request_that_ends_its_connection_is_not_remembered(world: World, line: tuple[str, str]) -> None:
    """An answer from memory could not end the connection, which the peer expects and waits for."""
    await remember(world, RUNS)
    last = replace(RUNS, lines=[*RUNS.lines, line, ("upgrade", "websocket")])
    for _ in range(4):
        await world.over_http1(last)
    assert world.http1.recall(last.bytes) is None


async def test_what_is_let_go_elsewhere_is_not_given_here(world: World) -> None:
    """A review and a token that their own memories have no room for are asked and verified anew."""
    await remember(world, RUNS)
    for number in range(CACHE.max_entries):
        await world.over_grpc(replace(RUNS, target=f"/runs?namespace=other-{number}"))
    assert recalled(world, RUNS) is None
    await remember(world, replace(RUNS, target="/me"))  # all headers that count are known now
    await remember(world, RUNS)
    for number in range(2):
        other = replace(RUNS, target="/me", lines=list(bearer(ISSUER.token(sub=f"user-{number}")).items()))
        await world.over_grpc(other)
    assert recalled(world, RUNS) is None


async def test_an_event_elsewhere_ends_nothing_for_long(world: World) -> None:
    """Once the kept review is seen to stand, all that rests on it does again."""
    await remember(world, RUNS)
    world.generations.raise_for([("Namespace", "elsewhere")])
    assert recalled(world, RUNS) is None
    await world.over_grpc(replace(RUNS, lines=[*RUNS.lines, ("content-length", "0")]))
    assert recalled(world, RUNS)


async def test_two_requests_in_one_read_are_none_that_is_known(world: World) -> None:
    """Nor is one that is cut off, or followed by anything."""
    await remember(world, RUNS)
    head = RUNS.bytes
    for read in (
        head * 2,
        head[:-1],
        head[:-2],
        head + b"\r\n",
        b"\r\n" + head,
        head + b"x",
        head.replace(b"\r\n", b"\n"),
    ):
        assert world.http1.recall(read) is None


async def test_the_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In number, in the size of each, and in the headers that a policy can make it look at."""
    monkeypatch.setattr(memory, "MAX_KEPT", 3)
    for number in range(5):
        await remember(world, replace(RUNS, target=f"/public?x={number}"))
        assert len(world.grpc._checks._memory) <= 3
    long = replace(RUNS, target="/public?x=" + "y" * memory.MAX_KEY_LENGTH)
    await world.over_grpc(long)
    assert recalled(world, long) is None
    monkeypatch.setattr(memory, "MAX_NAMES", 1)
    by_header = SOUND[10]
    for _ in range(3):
        await world.over_grpc(by_header)
    assert recalled(world, by_header) is None


async def test_refusals_are_not_remembered(world: World) -> None:
    """Each names its request."""
    refused = replace(RUNS, lines=[])
    for _ in range(3):
        await world.over_grpc(refused)
        await world.over_http1(refused)
    assert recalled(world, refused) is None
    assert world.http1.recall(refused.bytes) is None


async def test_an_error_while_repeating_is_no_answer(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the request is decided anew."""
    await remember(world, RUNS)
    world.wall.now = None  # type: ignore[assignment]
    assert recalled(world, RUNS) is None
    assert "decided anew" in caplog.text


async def test_the_awaited_answer_is_remembered_too(world: World) -> None:
    """Keys that had to be fetched for a route without reviews are a ground like those at hand."""
    raw = replace(RUNS, target="/me")
    answer = world.grpc._checks.answer(check.decoded(raw.message))
    assert inspect.isawaitable(answer)
    await answer
    world.publish(rsa_key("key-1"))
    assert recalled(world, raw)
