"""Shared questions, and refusals that are remembered: what is left behind of them."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from extauthz.errors import Unavailable
from extauthz.identity.flights import Flights
from extauthz.identity.refusals import Refusals
from tests.issuer import Clock


def full() -> Unavailable:
    return Unavailable("busy", "Too many.")


async def test_a_failure_that_nobody_waited_for_is_told_to_nobody() -> None:
    """Whoever asked has gone away; the next one asks anew."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    flights: Flights[str, int] = Flights(1, full)
    begun, fail, failed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def ask() -> int:
        begun.set()
        await fail.wait()
        failed.set()
        raise OSError("down")

    async def answer() -> int:
        return 7

    waiting = asyncio.create_task(flights.join("key", ask))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    fail.set()
    await failed.wait()
    await asyncio.sleep(0)
    gc.collect()
    assert await flights.join("key", answer) == 7
    assert told == []


async def test_closing_waits_for_the_end_of_each_question() -> None:
    """Nothing of it is left behind, and who waits is told that the house is full."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    flights: Flights[str, int] = Flights(1, full)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def ask() -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()
        return 7

    waiting = asyncio.create_task(flights.join("key", ask))
    await begun.wait()
    await flights.close()
    assert ended.is_set()
    with pytest.raises(Unavailable):
        await waiting
    assert told == []


def test_a_credential_of_any_characters_is_remembered() -> None:
    """Bytes that are no UTF-8 arrive as lone surrogates."""
    refusals = Refusals(5, Clock(0))
    refusals.add("\udcff", 403)
    assert refusals.status_of("\udcff") == 403
    assert refusals.status_of("\udcfe") is None
