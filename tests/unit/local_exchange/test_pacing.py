from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from krakenbot.adapters.local_exchange import pacing
from krakenbot.adapters.local_exchange.venue_clock import RunningClock
from krakenbot.apps.exchange_building import build
from krakenbot.apps.exchange_options import ExchangeOptions

SECOND_NS = 1_000_000_000


class FakeTime:
    now_ns = 1_700_000_000 * SECOND_NS


async def test_after_a_stall_the_flow_is_put_off_once_however_late_the_index_is(monkeypatch):
    monkeypatch.setattr(pacing, "TURN_NS", 0)
    time = FakeTime()
    clock = RunningClock(read_ns=lambda: time.now_ns)
    exchange, flow = build(ExchangeOptions(symbols=2, limits="off"), [], clock, None)
    time.now_ns += 20 * SECOND_NS
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pacing.run_venue, exchange, flow, clock)
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()

    assert flow.behind_ns == pytest.approx(20 * SECOND_NS, abs=SECOND_NS)
    assert exchange.venue.next_at_ns() > clock.now_ns()
