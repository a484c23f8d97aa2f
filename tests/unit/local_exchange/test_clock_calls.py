"""Callbacks at a time of the venue, on both clocks."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.lowlevel
import pytest

from krakenbot.adapters.local_exchange.venue_clock import RunningClock, SteppedClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_a_stepped_clock_calls_back_in_order_of_time_when_it_is_moved_and_not_before():
    clock, called = SteppedClock(100), []
    clock.call_at_ns(300, lambda: called.append("late"))
    clock.call_at_ns(200, lambda: called.append("early"))
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    before = list(called)
    due_ns = clock.next_due_ns()
    clock.move_to(250)
    between = list(called)
    clock.move_to(300)

    assert before == []
    assert due_ns == 200
    assert between == ["early"]
    assert called == ["early", "late"]


async def test_what_is_due_already_is_called_in_the_next_turn_and_never_at_once():
    for clock in (SteppedClock(100), RunningClock()):
        called: list[int] = []
        clock.call_at_ns(clock.now_ns(), partial(called.append, 1))
        at_once = list(called)
        await anyio.lowlevel.checkpoint()

        assert at_once == []
        assert called == [1]


async def test_a_running_clock_calls_back_after_the_time_of_its_own_speed():
    clock = RunningClock(speed=100)
    called, due_ns = [], clock.now_ns() + 2_000_000_000
    clock.call_at_ns(due_ns, lambda: called.append(clock.now_ns()))
    with anyio.move_on_after(10):
        while not called:
            await anyio.sleep(0.001)

    assert called[0] >= due_ns - 10_000_000
    assert called[0] < due_ns + 500_000_000_000
