"""Slots for questions: bounds, fairness, and callers who go away at any moment."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.errors import Unavailable
from extauthz.limiter import Limiter


def overloaded() -> Unavailable:
    return Unavailable("overloaded", "Too many ask.")


class Caller:
    """Somebody who asks for a slot and keeps it until told."""

    def __init__(self, limiter: Limiter, user: str, deadline: float = math.inf) -> None:
        self.user = user
        self.leave = asyncio.Event()
        self.inside = False
        self.task = asyncio.ensure_future(self._run(limiter, deadline))

    async def _run(self, limiter: Limiter, deadline: float) -> None:
        async with limiter.slot(self.user, deadline):
            self.inside = True
            try:
                await self.leave.wait()
            finally:
                self.inside = False


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def inside(callers: list[Caller]) -> list[str]:
    return [caller.user for caller in callers if caller.inside]


async def arrive(limiter: Limiter, users: str) -> list[Caller]:
    """Let one caller come for each letter."""
    callers = [Caller(limiter, user) for user in users]
    await settle()
    return callers


async def finish(callers: list[Caller]) -> list[Any]:
    """Let everybody go."""
    for caller in callers:
        caller.leave.set()
    return await asyncio.gather(*(caller.task for caller in callers), return_exceptions=True)


async def test_users_take_turns() -> None:
    """A free slot goes to the users who wait in turn, not to whoever asked most."""
    limiter = Limiter(concurrent=2, queued=40, per_user=1, full=overloaded)
    callers = await arrive(limiter, "aaaabc")
    assert inside(callers) == ["a", "b"]
    callers[0].leave.set()
    await settle()
    assert inside(callers) == ["a", "b"]
    callers[4].leave.set()
    await settle()
    assert inside(callers) == ["a", "c"]
    await finish(callers)
    assert (limiter.running, limiter.waiting) == (0, 0)


async def test_full_queue_refuses_at_once() -> None:
    """Whoever finds the queue full is refused, and so is a user who holds a quarter of it."""
    limiter = Limiter(concurrent=1, queued=4, per_user=1, full=overloaded)
    callers = await arrive(limiter, "aabbcdef")
    assert (limiter.running, limiter.waiting) == (1, 4)
    results = await finish(callers)
    refused = "".join(caller.user for caller, result in zip(callers, results, strict=True) if result)
    assert refused == "bef"
    assert all(isinstance(result, Unavailable | None) for result in results)


async def test_no_queue_at_all() -> None:
    """With no queue, only free slots serve."""
    limiter = Limiter(concurrent=2, queued=0, per_user=1, full=overloaded)
    callers = await arrive(limiter, "ab")
    with pytest.raises(Unavailable):
        async with limiter.slot("c", math.inf):
            pass
    await finish(callers)


async def test_waiting_ends_at_the_deadline() -> None:
    """A deadline that has passed ends the wait and leaves the queue."""
    limiter = Limiter(concurrent=1, queued=4, per_user=1, full=overloaded)
    callers = await arrive(limiter, "a")
    with pytest.raises(TimeoutError):
        async with limiter.slot("b", asyncio.get_running_loop().time()):
            pass
    assert limiter.waiting == 0
    await finish(callers)


async def test_slot_given_to_a_cancelled_caller_is_passed_on() -> None:
    """A caller who is cancelled in the moment he gets his slot gives it to the next."""
    limiter = Limiter(concurrent=1, queued=8, per_user=1, full=overloaded)
    callers = await arrive(limiter, "abc")
    callers[0].leave.set()
    await asyncio.sleep(0)
    assert (limiter.running, limiter.waiting) == (1, 1)
    callers[1].task.cancel()
    await settle()
    assert inside(callers) == ["c"]
    await finish(callers)
    assert limiter.running == 0


async def test_cancelled_caller_is_skipped() -> None:
    """A caller who is cancelled just before a slot becomes free is passed over."""
    limiter = Limiter(concurrent=1, queued=8, per_user=1, full=overloaded)
    callers = await arrive(limiter, "abc")
    callers[0].leave.set()
    callers[1].task.cancel()
    await settle()
    assert inside(callers) == ["c"]
    await finish(callers)
    assert (limiter.running, limiter.waiting) == (0, 0)


_steps = st.lists(st.tuples(st.sampled_from(["come", "leave", "cancel", "run"]), st.integers(0, 30)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(steps=_steps)
def test_bounds_hold_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """However callers come, leave and are cancelled, the bounds hold, no slot is lost and nobody waits for nothing."""
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[str, int]]) -> None:
    limiter = Limiter(concurrent=3, queued=8, per_user=2, full=overloaded)
    callers: list[Caller] = []
    for action, number in steps:
        if action == "come":
            callers.append(Caller(limiter, "abcd"[number % 4]))
        elif action == "run":
            await settle()
            _check(limiter, callers)
        elif callers and action == "leave":
            callers[number % len(callers)].leave.set()
        elif callers:
            callers[number % len(callers)].task.cancel()
    await finish(callers)
    assert (limiter.running, limiter.waiting) == (0, 0)


def _check(limiter: Limiter, callers: list[Caller]) -> None:
    users = inside(callers)
    assert len(users) == limiter.running <= 3
    assert limiter.waiting <= 8
    assert all(users.count(user) <= 2 for user in "abcd")
    waiting = {caller.user for caller in callers if not caller.task.done()} - set()
    for user in waiting:
        alone = [caller for caller in callers if caller.user == user and not caller.task.done() and not caller.inside]
        assert not alone or len(users) == 3 or users.count(user) == 2
