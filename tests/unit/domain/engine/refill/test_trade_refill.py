"""The refill of trade gaps over a history in memory: what comes, what is asked how often, what stays named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import define, evolve

from krakenbot.adapters.memory.database import MemoryDatabase
from krakenbot.adapters.memory.state_stores import MemorySampleSink
from krakenbot.adapters.memory.trade_history import MemoryTradeHistory
from krakenbot.domain.engine.trade_refill import RefillSettings, TradeRefill
from krakenbot.domain.errors import VenueRejected, VenueUnavailable
from krakenbot.domain.market.samples import TradeSample
from krakenbot.domain.market.trade_ledger import GapCause, TradeSource
from krakenbot.domain.values import NS_PER_S, RunId, Side, Symbol

BTC, ETH = Symbol("BTC/USD"), Symbol("ETH/USD")
RUN = RunId(1)


class Stopped(Exception):
    """The clock stands: a loop without an end ends here."""


@define
class ManualClock:
    elapsed_s: float = 0.0
    stop_s: float = 1e9

    def now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.elapsed_s)

    def now_ns(self) -> int:
        return round(self.elapsed_s * NS_PER_S)

    def mono(self) -> float:
        return self.elapsed_s

    async def sleep(self, duration_s: float) -> None:
        self.elapsed_s += duration_s
        if self.elapsed_s > self.stop_s:
            raise Stopped


def make_trade(trade_id: int, symbol: Symbol = BTC) -> TradeSample:
    """A trade a second, received when it happened."""
    return TradeSample(
        symbol=symbol,
        trade_id=trade_id,
        side=Side.BUY,
        price=Decimal(1),
        qty=Decimal(1),
        at_ns=trade_id * NS_PER_S,
        received_at_ns=trade_id * NS_PER_S,
    )


class World:
    def __init__(self, *held: int, page_rows: int = 1000, **settings: Any) -> None:
        self.clock = ManualClock()
        self.database = MemoryDatabase()
        self.sink = MemorySampleSink(self.database)
        self.history = MemoryTradeHistory((make_trade(i) for i in range(1, 2001)), page_rows=page_rows)
        self.events: list[tuple[str, dict[str, object]]] = []
        self.refill = TradeRefill(
            clock=self.clock,
            sink=self.sink,
            history=self.history,
            events=self,
            settings=RefillSettings(**settings),
        )
        self.put(*held)

    def emit(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))

    def put(self, *ids: int, source: TradeSource = TradeSource.FEED) -> None:
        self.sink.put(RUN, [make_trade(i) for i in ids], source=source)
        self.clock.elapsed_s = max([self.clock.elapsed_s, *ids])

    def held(self) -> list[int]:
        return sorted(row.trade_id for row in self.database.samples.get(RUN, []) if isinstance(row, TradeSample))

    async def after(self, wait_s: float) -> None:
        self.clock.elapsed_s += wait_s
        await self.refill.refill_due()


async def test_gap_is_refilled_from_history_page_by_page_and_no_other_trade_comes_in() -> None:
    world = World(10, 40, page_rows=7)

    await world.after(6.0)

    assert [*range(10, 41)] == world.held()
    assert [] == world.sink.gaps()
    ((name, fields),) = world.events
    assert ("trade_gap_refilled", 29, "rest", "jump") == (name, fields["missing"], fields["source"], fields["cause"])
    assert len(world.history.calls) == 5


async def test_history_is_not_asked_while_a_snapshot_may_fill_the_gap() -> None:
    world = World(10, 13)

    await world.after(4.0)
    before = list(world.history.calls)
    world.put(11, 12, source=TradeSource.SNAPSHOT)
    await world.after(60.0)

    assert [] == before == world.history.calls
    assert [10, 11, 12, 13] == world.held()


async def test_venue_that_is_away_is_asked_again_with_growing_pauses() -> None:
    world = World(10, 13, retry_s=5.0)
    world.history.failures = [VenueUnavailable("away"), VenueUnavailable("away")]

    await world.after(6.0)
    await world.after(4.0)
    after_one = len(world.history.calls)
    await world.after(1.5)
    await world.after(9.0)
    after_two = len(world.history.calls)
    await world.after(1.5)

    assert (1, 2, 3) == (after_one, after_two, len(world.history.calls))
    assert [10, 11, 12, 13] == world.held()


@pytest.mark.parametrize("refusal", [True, False])
async def test_what_history_does_not_hold_stays_named_and_is_asked_for_no_more(refusal: bool) -> None:
    world = World(10, 13, tries_max=3, retry_s=1.0)
    world.history.trades = [make_trade(i) for i in (10, 11, 13)]
    if refusal:
        world.history.failures = [VenueRejected("EQuery:Unknown asset pair")]

    for _ in range(20):
        await world.after(30.0)

    assert (1 if refusal else 3) == len(world.history.calls)
    ((name, fields),) = world.events
    assert "trade_gap_left" == name
    reason = "EQuery:Unknown asset pair" if refusal else "history does not hold them"
    assert (reason, 2 if refusal else 1) == (fields["reason"], fields["missing"])
    assert 1 == len(world.sink.gaps())


async def test_gap_larger_than_its_pages_is_left_at_once() -> None:
    world = World(10, 3012, pages_max=3)

    await world.after(6.0)

    assert [] == world.history.calls
    assert ["trade_gap_left"] == [name for name, _ in world.events]
    assert "too large" == world.events[0][1]["reason"]


async def test_trade_that_is_a_little_older_than_the_one_before_its_gap_is_found() -> None:
    world = World(10, 13)
    early = make_trade(11)
    world.history.trades = [
        evolve(trade, at_ns=9 * NS_PER_S + 1) if trade == early else trade for trade in world.history.trades
    ]

    await world.after(6.0)

    assert [10, 11, 12, 13] == world.held()


async def test_range_of_a_gap_counts_against_its_pages_and_not_what_is_missing_of_it() -> None:
    world = World(10, 3012, pages_max=3)
    world.put(*range(20, 3000), source=TradeSource.SNAPSHOT)
    at_the_limit = World(10, 3011, pages_max=3)

    await world.after(6.0)
    await at_the_limit.after(6.0)

    assert ([], "too large") == (world.history.calls, world.events[0][1]["reason"])
    assert len(at_the_limit.history.calls) > 0


async def test_trades_lost_anew_are_asked_for_as_if_for_the_first_time() -> None:
    world = World(10, 13, tries_max=1)
    world.history.failures = [VenueUnavailable("away")]
    await world.after(6.0)
    world.put(11, 12, source=TradeSource.SNAPSHOT)
    await world.after(1.0)
    for trade in (make_trade(11), make_trade(12)):
        world.sink.ledger.lose(RUN, trade, GapCause.QUEUE_FULL)

    await world.after(6.0)

    assert [] == world.sink.gaps()
    assert ["trade_gap_left", "trade_gap_refilled"] == [name for name, _ in world.events]


async def test_pages_of_one_gap_are_bounded_and_the_next_try_goes_on() -> None:
    world = World(10, 40, page_rows=5, pages_max=3, retry_s=1.0)

    await world.after(6.0)
    first = len(world.history.calls)
    for _ in range(3):
        await world.after(60.0)

    assert 3 == first
    assert [*range(10, 41)] == world.held()
    assert ["trade_gap_refilled"] == [name for name, _ in world.events]


async def test_run_works_off_the_gaps_of_all_symbols() -> None:
    world = World(10, 13, interval_s=1.0)
    world.clock.stop_s = 60.0
    world.sink.put(RUN, [make_trade(5, ETH), make_trade(9, ETH)])
    world.history.trades += [make_trade(i, ETH) for i in range(1, 20)]

    with pytest.raises(Stopped):
        await world.refill.run()

    assert [] == world.sink.gaps()
    assert {BTC, ETH} == {symbol for symbol, _ in world.history.calls}
