"""Ingest over stores in memory, a scripted feed and virtual time: order of steps, grids, epochs, absence, the end.

Virtual time comes from the loop of the directory above: waiting costs nothing, and instants are exact.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import anyio
import pytest
from attrs import evolve
from tests.feed_health import feed_health

from krakenbot.adapters.memory.control_stores import MemoryCycleStore
from krakenbot.adapters.memory.database import MemoryDatabase
from krakenbot.adapters.memory.retention_store import MemoryRetentionStore
from krakenbot.adapters.memory.state_stores import (
    MemoryLineageStore,
    MemoryRefreshAnswers,
    MemorySampleSink,
    MemoryStateRefresher,
    MemoryStateStore,
)
from krakenbot.domain.engine.epochs import measure, troubles_of
from krakenbot.domain.engine.ingest import IngestEngine
from krakenbot.domain.engine.ingest_settings import IngestSettings
from krakenbot.domain.engine.refresh import RefreshServer, RefreshSettings
from krakenbot.domain.errors import SecondWriteFailed, StoreConflict, StoreError, StoreUnavailable, VenueUnavailable
from krakenbot.domain.execution.position import Position
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.market.samples import BookSample, Sample, TickerSample, TradeSample
from krakenbot.domain.market.trade import PublicTrade, Ticker
from krakenbot.domain.market.trade_ledger import TradeSource
from krakenbot.domain.state.epoch import EpochStatus, judge_epoch
from krakenbot.domain.state.retention import RetentionSettings, RunSettings
from krakenbot.domain.state.standing import Layer, StandingSettings, Trouble
from krakenbot.domain.state.universe import NO_UNIVERSE, UniverseSettings
from krakenbot.domain.values import NS_PER_S, Asset, LineageId, RunId, Side, Symbol, VenueId
from krakenbot.ports.market_feed import FeedHealth, MarketListener, Quarantine, StreamHealth

BTC, ETH, SOL = Symbol("BTC/USD"), Symbol("ETH/USD"), Symbol("SOL/USD")
HEALTH = feed_health()


def instrument(symbol: Symbol) -> Instrument:
    base, quote = symbol.split("/")
    return Instrument(
        symbol=symbol,
        base=Asset(base),
        quote=Asset(quote),
        status=InstrumentStatus.ONLINE,
        price_precision=1,
        qty_precision=4,
        cost_precision=5,
        price_increment=Decimal("0.1"),
        qty_increment=Decimal("0.0001"),
        qty_min=Decimal("0.0001"),
        cost_min=Decimal("0.5"),
    )


def trade(trade_id: int, symbol: Symbol = BTC) -> PublicTrade:
    return PublicTrade(symbol=symbol, trade_id=trade_id, side=Side.BUY, price_ticks=1000, size_lots=5, at_ns=trade_id)


def ticker(symbol: Symbol, volume_quote: float) -> Ticker:
    return Ticker(symbol=symbol, bid=99.0, ask=101.0, last=100.0, volume_24h=volume_quote / 100.0, at_ns=1)


class FixedBook:
    updated_at_ns = 1
    received_mono = 0.0

    def __init__(self) -> None:
        self.is_valid = True
        self.bid = (1000, 10)

    @property
    def invalid_reason(self) -> str:
        return "" if self.is_valid else "checksum"

    def best_bid(self) -> tuple[int, int] | None:
        return self.bid if self.is_valid else None

    def best_ask(self) -> tuple[int, int] | None:
        return (1001, 10) if self.is_valid else None

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        best = self.best_bid() if side is Side.BUY else self.best_ask()
        return [] if best is None else [best]

    def levels_near(self, side: Side, distance_bps: float, least: int) -> list[tuple[int, int]]:
        return self.levels(side, least)


class ScriptedFeed:
    """Tells nothing by itself; a test tells the listener."""

    def __init__(self, journal: list[str], symbols: Sequence[Symbol], delay_s: float = 0.0) -> None:
        self.journal = journal
        self.delay_s = delay_s
        self.listed = {symbol: instrument(symbol) for symbol in symbols}
        self.known: dict[Symbol, Instrument] = {}
        self.books: dict[Symbol, FixedBook] = {}
        self.state = HEALTH
        self.listener: MarketListener | None = None
        self.asked: list[tuple[Symbol, ...]] = []

    @property
    def told(self) -> MarketListener:
        assert self.listener is not None
        return self.listener

    async def run(self, listener: MarketListener) -> None:
        self.listener = listener
        await anyio.sleep(self.delay_s)
        self.known = dict(self.listed)
        if self.known:
            listener.on_instruments(list(self.known.values()))
        await anyio.sleep_forever()

    def set_symbols(self, l2: Sequence[Symbol], l3: Sequence[Symbol]) -> None:
        self.journal.append("universe")
        self.asked.append(tuple(l2))
        for symbol in l2:
            if symbol not in self.books:
                self.books[symbol] = FixedBook()
                self.told.on_validity(symbol, "l2", valid=True, reason="")

    def instruments(self) -> dict[Symbol, Instrument]:
        return self.known

    def book(self, symbol: Symbol) -> FixedBook | None:
        return self.books.get(symbol)

    def queue(self, symbol: Symbol) -> None:
        return None

    def health(self) -> FeedHealth:
        return self.state


class Recorded:
    """Events, and every call of a store by name, in one order; what is in `away` raises that it is away,
    what is in `half` does its first write only."""

    def __init__(self) -> None:
        self.journal: list[str] = []
        self.rows: list[tuple[str, dict[str, object]]] = []
        self.away: set[str] = set()
        self.failure: Exception = StoreUnavailable("away")
        self.half: set[str] = set()

    def emit(self, name: str, **fields: object) -> None:
        self.rows.append((name, fields))

    def of(self, name: str) -> list[dict[str, object]]:
        return [fields for found, fields in self.rows if found == name]

    def watched(self, store: Any, *names: str) -> Any:
        for name in names:
            setattr(store, name, self._wrapped(name, getattr(store, name)))
        return store

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name in self.away:
                raise self.failure
            self.journal.append(name)
            result = await call(*args, **kwargs)
            if name in self.half:
                raise SecondWriteFailed("the decision database is away")
            return result

        return wrapped


class CountingSink(MemorySampleSink):
    """Remembers what it was given before it drops repeated trades."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.put_rows: list[Sample] = []

    def put(self, run_id: RunId, samples: Sequence[Sample], *, source: TradeSource = TradeSource.FEED) -> None:
        self.put_rows += samples
        super().put(run_id, samples, source=source)


class World:
    def __init__(
        self,
        clock: Any,
        listed: Sequence[Symbol] = (BTC, ETH),
        run_settings: RunSettings | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock
        self.database = MemoryDatabase()
        self.seen = Recorded()
        self.feed = ScriptedFeed(self.seen.journal, listed)
        self.sink = CountingSink(self.database)
        self.state_store = MemoryStateStore(self.database)
        watched = self.seen.watched
        self.engine = IngestEngine(
            clock=clock,
            feed=self.feed,
            sink=self.sink,
            lineage_store=watched(
                MemoryLineageStore(self.database),
                "start_lineage",
                "prepare_run",
                "start_run",
                "publish_epoch",
                "publish_pending",
                "pinned_symbols",
                "end_run",
            ),
            refresher=watched(MemoryStateRefresher(self.database), "publish_instruments", "refresh", "sync"),
            answers=watched(MemoryRefreshAnswers(self.database), "answer"),
            cycle_store=watched(MemoryCycleStore(self.database), "publish_status"),
            events=self.seen,
            settings=IngestSettings(**{"symbols": tuple(listed), **settings}),
            universe_settings=UniverseSettings(),
            standing_settings=StandingSettings(),
            refresh_settings=RefreshSettings(),
            run_settings=run_settings or RunSettings(),
            retention_settings=RetentionSettings(),
            window_reach_s=1800.0,
            retention_store=watched(MemoryRetentionStore(self.database), "stored_runs", "drop_run"),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.engine.run)
            yield
            tasks.cancel_scope.cancel()

    def samples(self, kind: type) -> list[Any]:
        return [row for row in self.sink.put_rows if isinstance(row, kind)]

    def statuses(self) -> list[EpochStatus]:
        return [epoch.status for epoch in self.database.epochs]


@pytest.fixture
def clock() -> Any:
    class VirtualClock:
        start = datetime.fromisoformat("2026-03-01T12:00:00+00:00")

        def mono(self) -> float:
            return anyio.current_time()

        offset_s = 0.0

        def now(self) -> datetime:
            return datetime.fromtimestamp(self.start.timestamp() + self.offset_s + self.mono(), self.start.tzinfo)

        def now_ns(self) -> int:
            return int(self.start.timestamp()) * NS_PER_S + round((self.offset_s + self.mono()) * NS_PER_S)

        async def sleep(self, duration_s: float) -> None:
            await anyio.sleep(duration_s)

    return VirtualClock()


async def test_lineage_then_instruments_then_universe_then_epoch(clock: Any) -> None:
    world = World(clock)

    async with world.running():
        await anyio.sleep(1.5)

    steps = [step for step in world.seen.journal if step not in {"pinned_symbols", "publish_status"}]
    begun = ["start_lineage", "start_run", "prepare_run"]
    assert [
        *begun,
        "publish_instruments",
        "universe",
        "publish_epoch",
        "prepare_run",
        "stored_runs",
        "end_run",
    ] == steps
    assert world.feed.asked == [(BTC, ETH)]
    assert world.database.universes[1].execution == (BTC, ETH)
    assert set(world.database.instruments) == {BTC, ETH}


async def test_no_instruments_in_time_is_a_named_failure_and_the_run_is_ended(clock: Any) -> None:
    world = World(clock, instruments_wait_s=5.0)
    world.feed.delay_s = 100.0

    with pytest.raises(ExceptionGroup) as caught:
        await world.engine.run()

    assert caught.group_contains(VenueUnavailable, match="no instruments within 5 s")
    assert list(world.database.ended_runs) == [1]
    assert world.database.epochs == []


async def test_books_are_sampled_on_the_grid(clock: Any) -> None:
    world = World(clock, sample_interval_s=0.5)

    async with world.running():
        await anyio.sleep(10.0)

    instants = [row.at_ns for row in world.samples(BookSample) if row.symbol == BTC]
    assert len(instants) == 20
    assert {later - sooner for sooner, later in itertools.pairwise(instants)} == {NS_PER_S // 2}
    assert {row.symbol for row in world.samples(BookSample)} == {BTC, ETH}


async def test_a_late_step_leaves_instants_out_and_returns_to_the_grid(clock: Any) -> None:
    world = World(clock)
    done_at: list[float] = []

    async def step() -> None:
        done_at.append(clock.mono() - began)
        await anyio.sleep(2.4 if len(done_at) == 3 else 0.0)

    began = clock.mono()
    with anyio.move_on_after(9.5):
        await world.engine._every(1.0, step)

    assert done_at == pytest.approx([0.0, 1.0, 2.0, 5.0, 6.0, 7.0, 8.0, 9.0])


async def test_an_invalid_book_is_not_sampled(clock: Any) -> None:
    world = World(clock)

    async with world.running():
        await anyio.sleep(0.7)
        world.feed.books[ETH].is_valid = False
        before = len(world.samples(BookSample))
        await anyio.sleep(3.0)

    after = world.samples(BookSample)[before:]
    assert len(after) == 3
    assert {row.symbol for row in after} == {BTC}


async def test_trades_are_kept_once_and_gaps_are_counted(clock: Any) -> None:
    world = World(clock)

    async with world.running():
        await anyio.sleep(1.2)
        listener = world.feed.told
        listener.on_trades([trade(5), trade(6)], is_snapshot=True)
        listener.on_trades([trade(6), trade(7)], is_snapshot=False)
        listener.on_trades([trade(10)], is_snapshot=False)
        listener.on_trades([trade(8), trade(9), trade(10), trade(12)], is_snapshot=True)
        listener.on_trades([trade(100, ETH)], is_snapshot=False)
        listener.on_trades([trade(1, SOL)], is_snapshot=False)
        await anyio.sleep(2.0)

    kept = [(row.symbol, row.trade_id) for row in world.samples(TradeSample)]
    assert sorted(set(kept)) == [*((BTC, number) for number in (5, 6, 7, 8, 9, 10, 12)), (ETH, 100)]
    assert world.sink.stats().rows["trade_samples"] == 8
    assert [(gap["after"], gap["before"], gap["missing"]) for gap in world.seen.of("trade_gap")] == [
        (7, 10, 2),
        (10, 12, 1),
    ]
    assert world.database.status["ingest"][1]["missing_trades"] == 3
    assert world.samples(TradeSample)[0].price == Decimal("100.0")
    assert world.samples(TradeSample)[0].qty == Decimal("0.0005")


@pytest.mark.parametrize("is_snapshot", [True, False])
async def test_trades_say_whether_a_snapshot_brought_them(clock: Any, is_snapshot: bool) -> None:
    world = World(clock)

    async with world.running():
        await anyio.sleep(1.2)
        listener = world.feed.told
        listener.on_trades([trade(5)], is_snapshot=False)
        listener.on_trades([trade(8)], is_snapshot=is_snapshot)
        listener.on_trades([trade(6)], is_snapshot=is_snapshot)
        await anyio.sleep(0.1)

    assert [is_snapshot] == [gap["resumed"] for gap in world.seen.of("trade_gap")]
    (gap,) = world.sink.gaps()
    assert ("snapshot" if is_snapshot else "feed", [(7, 7)]) == (gap.refilled_from, gap.missing)


async def test_no_trade_is_lost_to_an_id_far_ahead_or_to_the_order_of_a_snapshot(clock: Any) -> None:
    world = World(clock)

    async with world.running():
        await anyio.sleep(1.2)
        listener = world.feed.told
        listener.on_trades([trade(7), trade(6), trade(5)], is_snapshot=True)
        listener.on_trades([trade(2**62)], is_snapshot=False)
        listener.on_trades([trade(8)], is_snapshot=False)
        await anyio.sleep(1.0)

    kept = {row.trade_id for row in world.samples(TradeSample)}
    assert kept == {5, 6, 7, 8, 2**62}


@pytest.mark.parametrize("wild_at_ns", [8, 2**62])
async def test_jumps_are_said_again_after_an_id_far_ahead(clock: Any, wild_at_ns: int) -> None:
    world = World(clock)

    async with world.running():
        await anyio.sleep(1.2)
        listener = world.feed.told
        wild = evolve(trade(2**62), at_ns=wild_at_ns)
        after_ns = clock.now_ns() + 61 * NS_PER_S
        listener.on_trades([trade(7)], is_snapshot=False)
        listener.on_trades([wild], is_snapshot=False)
        listener.on_trades([evolve(trade(8), at_ns=after_ns)], is_snapshot=False)
        listener.on_trades([trade(5)], is_snapshot=True)
        listener.on_trades([evolve(trade(11), at_ns=after_ns)], is_snapshot=False)
        await anyio.sleep(1.0)

    gaps = [(gap["after"], gap["before"]) for gap in world.seen.of("trade_gap")]
    assert gaps == [(7, 2**62), (8, 11)]


async def test_samples_keep_clear_of_the_edges_of_a_second(clock: Any) -> None:
    clock.offset_s = 0.999 - clock.mono() % 1.0
    world = World(clock)

    async with world.running():
        await anyio.sleep(20.3)

    instants = [row.at_ns for row in world.samples(BookSample) if row.symbol == BTC]
    assert len(instants) >= 19
    assert {at_ns % NS_PER_S for at_ns in instants} == {NS_PER_S // 2}


async def test_a_feed_that_is_served_late_makes_no_epoch_valid(clock: Any) -> None:
    world = World(clock, epoch_interval_s=2.0)

    async with world.running():
        await anyio.sleep(1.0)
        world.feed.state = evolve(HEALTH, lag_s=26.0)
        await anyio.sleep(2.0)

    assert world.statuses() == [EpochStatus.VALID, EpochStatus.INVALID]


async def test_order_flow_is_not_counted_across_a_gap_of_the_book(clock: Any) -> None:
    world = World(clock)

    async with world.running():
        await anyio.sleep(2.0)
        listener = world.feed.told
        listener.on_book(BTC)
        before = len(world.samples(BookSample))
        listener.on_validity(BTC, "l2", valid=False, reason="checksum mismatch")
        book = world.feed.books[BTC]
        book.bid = (1000, 17)
        listener.on_validity(BTC, "l2", valid=True, reason="")
        listener.on_book(BTC)
        await anyio.sleep(1.0)

    later = [row for row in world.samples(BookSample)[before:] if row.symbol == BTC]
    assert [row.ofi for row in later] == [0.0]


async def test_every_ticker_is_a_row(clock: Any) -> None:
    world = World(clock)

    async with world.running():
        await anyio.sleep(1.0)
        for _ in range(3):
            world.feed.told.on_ticker(ticker(BTC, 5e6))

    assert len(world.samples(TickerSample)) == 3


async def test_epochs_follow_one_another_and_say_what_was_measured(clock: Any) -> None:
    world = World(clock, epoch_interval_s=2.0)

    async with world.running():
        await anyio.sleep(1.0)
        world.feed.books[ETH].is_valid = False
        await anyio.sleep(2.0)
        world.feed.state = evolve(HEALTH, heartbeat_age_s=11.0)
        await anyio.sleep(2.0)
        world.feed.state = evolve(HEALTH, heartbeat_age_s=None)
        await anyio.sleep(2.0)
        world.feed.state, world.feed.books[ETH].is_valid = HEALTH, True
        await anyio.sleep(2.0)

    valid, degraded, invalid = EpochStatus.VALID, EpochStatus.DEGRADED, EpochStatus.INVALID
    assert [valid, degraded, invalid, invalid, valid] == world.statuses()
    assert world.database.epochs[1].reasons == ("L2 fresh 1 of 2 < 95 %",)
    assert [event["status"] for event in world.seen.of("epoch")] == ["valid", "degraded", "invalid", "valid"]
    assert world.database.status["ingest"][1]["epochs"] == {"valid": 2, "degraded": 1, "invalid": 2}


async def test_a_store_that_is_away_is_said_and_tried_again(clock: Any) -> None:
    world = World(clock, epoch_interval_s=2.0)

    async with world.running():
        await anyio.sleep(1.0)
        world.seen.away = {"publish_epoch", "publish_status", "pinned_symbols"}
        await anyio.sleep(5.0)
        world.seen.away = set()
        await anyio.sleep(2.5)

    assert len(world.seen.of("epoch_not_published")) >= 3
    assert len(world.seen.of("status_not_published")) >= 4
    assert len(world.database.epochs) >= 3
    assert len({row.at_ns for row in world.samples(BookSample)}) == 9, "sampling went on"


async def test_a_store_that_is_away_at_the_start_is_waited_for(clock: Any) -> None:
    world = World(clock)
    world.seen.away = {"publish_instruments"}

    async with world.running():
        await anyio.sleep(3.5)
        asked_while_away = list(world.feed.asked)
        world.seen.away = set()
        await anyio.sleep(2.0)

    assert asked_while_away == []
    assert len(world.seen.of("universe_not_chosen")) == 4
    assert world.statuses() == [EpochStatus.VALID]
    assert set(world.database.instruments) == {BTC, ETH}


async def test_changed_instruments_are_published_even_if_the_store_was_away(clock: Any) -> None:
    world = World(clock, epoch_interval_s=2.0)

    async with world.running():
        await anyio.sleep(1.0)
        world.seen.away = {"publish_instruments"}
        world.feed.known[BTC] = evolve(world.feed.known[BTC], cost_min=Decimal(9))
        world.feed.told.on_instruments([world.feed.known[BTC]])
        await anyio.sleep(3.0)
        world.seen.away = set()
        await anyio.sleep(3.0)

    assert world.database.instruments[BTC].cost_min == 9
    assert world.seen.journal.count("publish_instruments") == 2


async def test_cancellation_records_the_end_of_the_run_and_the_last_counters(clock: Any) -> None:
    world = World(clock, status_interval_s=60.0)

    async with world.running():
        await anyio.sleep(3.0)
        world.feed.state = evolve(HEALTH, book_ok=77)

    assert list(world.database.ended_runs) == [1]
    _, body = world.database.status["ingest"]
    assert isinstance(body["feed"], dict)
    assert body["feed"]["book_ok"] == 77
    assert world.seen.rows[-1][0] == "ingest_stopped"


async def test_an_end_that_cannot_be_recorded_is_said(clock: Any) -> None:
    world = World(clock)

    async with world.running():
        await anyio.sleep(3.0)
        world.seen.away = {"end_run"}

    assert world.seen.of("run_end_not_recorded") == [{"reason": "away"}]
    assert world.database.ended_runs == {}


async def test_an_open_universe_lets_tickers_decide_and_waits_for_late_ones(clock: Any) -> None:
    world = World(clock, (BTC, ETH, SOL), symbols=(), epoch_interval_s=2.0)

    async with world.running():
        await anyio.sleep(1.0)
        world.feed.told.on_ticker(ticker(BTC, 5e6))
        world.feed.told.on_ticker(ticker(ETH, 10.0))
        await anyio.sleep(2.0)
        world.feed.told.on_ticker(ticker(SOL, 5e6))
        await anyio.sleep(2.0)

    assert world.feed.asked == [(BTC, ETH, SOL), (BTC, SOL)]
    assert world.database.universes[3].execution == (BTC, SOL)


async def test_a_symbol_that_was_too_small_is_looked_at_again(clock: Any) -> None:
    world = World(clock, (BTC, ETH), symbols=(), epoch_interval_s=2.0, volume_max_age_s=10.0)

    async with world.running():
        await anyio.sleep(1.0)
        world.feed.told.on_ticker(ticker(ETH, 10.0))
        await anyio.sleep(15.0)
        world.feed.told.on_ticker(ticker(ETH, 5e6))
        await anyio.sleep(4.0)

    assert world.feed.asked == [(BTC, ETH), (BTC,), (BTC, ETH)]


async def test_a_symbol_in_use_keeps_its_last_volume_and_no_other_does(clock: Any) -> None:
    world = World(clock, (BTC, ETH), symbols=(), epoch_interval_s=2.0, volume_max_age_s=10.0)

    async with world.running():
        await anyio.sleep(1.0)
        world.feed.told.on_ticker(ticker(BTC, 5e6))
        world.feed.told.on_ticker(ticker(ETH, 10.0))
        await anyio.sleep(60.0)

    last = list(world.database.universes.values())[-1]
    assert last.execution == (BTC,)
    assert world.feed.asked == [(BTC, ETH), (BTC,), (BTC, ETH)]


@pytest.mark.parametrize(("channel", "layer"), [("level3", Layer.L3), ("book", Layer.L2), ("ticker", Layer.L2)])
def test_a_quarantine_is_booked_to_the_layer_of_its_channel(channel: str, layer: Layer) -> None:
    (trouble,) = troubles_of(evolve(HEALTH, quarantined=(quarantine(ETH, channel),)))

    assert (ETH, layer, f"{channel} quarantined: checksum") == (trouble.symbol, trouble.layer, trouble.reason)
    assert not trouble.for_ever


def test_what_the_venue_refuses_is_booked_to_its_layer_for_ever() -> None:
    found = list(troubles_of(evolve(HEALTH, refused_l2={BTC: "a"}, refused_l3={ETH: "b"})))

    assert [
        Trouble(symbol=BTC, layer=Layer.L2, reason="refused by the venue: a", for_ever=True),
        Trouble(symbol=ETH, layer=Layer.L3, reason="refused by the venue: b", for_ever=True),
    ] == found


async def test_a_universe_without_a_symbol_to_trade_says_why_in_log_and_status(clock: Any) -> None:
    world = World(clock, (BTC, ETH), symbols=(), epoch_interval_s=2.0)

    async with world.running():
        await anyio.sleep(3.0)
        for symbol in (BTC, ETH):
            world.feed.told.on_ticker(ticker(symbol, 50_000.0))
        await anyio.sleep(6.0)

    assert [
        {"left_out": {reason: 2}, "first": {reason: [BTC, ETH]}}
        for reason in ("24 h volume is not known", "24 h volume under the minimum")
    ] == world.seen.of("universe_empty")
    universe = world.database.status["ingest"][1]["universe"]
    assert {"24 h volume under the minimum": [BTC, ETH]} == universe["left_out_first"]  # type: ignore[index]


async def test_a_reason_to_leave_symbols_out_is_said_when_no_set_changes(clock: Any) -> None:
    world = World(clock, (BTC, ETH), symbols=(BTC,), epoch_interval_s=2.0)

    async with world.running():
        await anyio.sleep(3.0)
        world.feed.known[SOL] = instrument(SOL)
        world.feed.told.on_instruments([world.feed.known[SOL]])
        await anyio.sleep(3.0)

    assert [{"not configured": 1}, {"not configured": 2}] == [row["left_out"] for row in world.seen.of("universe")]


@pytest.mark.parametrize(("wants_l3", "status"), [(True, EpochStatus.DEGRADED), (False, EpochStatus.VALID)])
async def test_an_empty_l3_set_is_missed_only_where_one_is_wanted(
    clock: Any, wants_l3: bool, status: EpochStatus
) -> None:
    world = World(clock, (BTC,))
    world.feed.books[BTC] = FixedBook()
    world.feed.state = evolve(HEALTH, level3_enabled=True)
    universe = evolve(NO_UNIVERSE, l2=(BTC,), execution=(BTC,))
    settings = IngestSettings(symbols=(BTC,))

    criteria = measure(world.feed, world.sink, universe, settings, wants_l3=wants_l3)

    assert status is judge_epoch(criteria)[0]


async def test_one_generation_answers_all_requests_that_wait(clock: Any) -> None:
    world = World(clock)
    answers: list[int | None] = []

    async def ask() -> None:
        answers.append(await world.state_store.request_refresh(clock.now(), 5.0))

    async with world.running():
        await anyio.sleep(3.0)
        async with anyio.create_task_group() as asking:
            for _ in range(4):
                asking.start_soon(ask)
        again = await world.state_store.request_refresh(clock.now(), 5.0)

    assert answers == [1, 1, 1, 1]
    assert again == 2
    assert world.seen.journal.count("refresh") == 2
    assert [step for step in world.seen.journal if step in {"refresh", "sync", "answer"}][:3] == [
        "refresh",
        "sync",
        "answer",
    ]
    assert world.database.status["ingest"][1]["generations"] == 2


@pytest.mark.parametrize("failure", [StoreUnavailable("away"), StoreConflict("22003", "numeric field overflow")])
@pytest.mark.parametrize("step", ["refresh", "sync", "answer"])
async def test_a_refresh_that_fails_is_said_and_the_request_is_answered_later(
    clock: Any, step: str, failure: Exception
) -> None:
    world = World(clock)
    world.seen.failure = failure
    server_failures = 0

    async with world.running():
        await anyio.sleep(3.0)
        world.seen.away = {step}
        early = await world.state_store.request_refresh(clock.now(), 2.0)
        server_failures = len(world.seen.of("refresh_failed"))
        world.seen.away = set()
        await anyio.sleep(1.0)

    assert early is None
    assert 3 <= server_failures <= 5
    assert all(answer is not None for answer in world.database.requests.values())


async def test_a_wait_without_requests_answers_nothing(clock: Any) -> None:
    database, seen = MemoryDatabase(), Recorded()
    server = RefreshServer(
        clock=clock,
        refresher=MemoryStateRefresher(database),
        answers=MemoryRefreshAnswers(database),
        events=seen,
        settings=RefreshSettings(),
        lineage_id=LineageId(1),
        run_id=RunId(1),
    )

    assert await server.serve_once() is False
    assert server.generations == 0
    assert clock.mono() >= 1.0


async def test_a_rotation_touches_neither_the_feed_nor_the_lineage(clock: Any) -> None:
    world = World(clock, run_settings=RunSettings(max_age_s=5.0, check_interval_s=0.5))

    async with world.running():
        await anyio.sleep(1.2)
        world.feed.told.on_trades([trade(5)], is_snapshot=False)
        await anyio.sleep(10.0)
        world.feed.told.on_trades([trade(6)], is_snapshot=False)
        await world.state_store.request_refresh(clock.now(), 5.0)

    kept = world.database.samples
    instants = {run_id: [row.at_ns for row in rows if isinstance(row, BookSample)] for run_id, rows in kept.items()}
    assert world.feed.asked == [(BTC, ETH)]
    assert world.seen.of("run_rotated")
    assert set(world.database.runs.values()) == {1}
    assert len({epoch.lineage_id for epoch in world.database.epochs}) == 1
    assert len(set(itertools.chain(*instants.values()))) * 2 == sum(map(len, instants.values())), "each in one run"
    begun = sorted(world.database.runs)
    for sooner, later in itertools.pairwise(begun):
        assert max(instants[sooner]) < min(instants[later])
    trades = [(run_id, row.trade_id) for run_id in begun for row in kept[run_id] if isinstance(row, TradeSample)]
    assert [trade_id for _, trade_id in trades] == [5, 6]
    assert trades[0][0] < trades[1][0]
    assert world.database.generation is not None
    assert {state.run_id for state in world.database.generation.states.values()} == {begun[-1]}
    assert world.database.status["ingest"][1]["run"]["rotations"] == len(begun) - 1  # type: ignore[index]


async def test_a_symbol_that_goes_cancel_only_leaves_the_next_snapshot_within_a_second(clock: Any) -> None:
    world = World(clock, epoch_interval_s=60.0)

    async with world.running():
        await anyio.sleep(3.0)
        world.feed.known[ETH] = evolve(world.feed.known[ETH], status=InstrumentStatus.CANCEL_ONLY)
        world.feed.told.on_instruments([world.feed.known[ETH]])
        await anyio.sleep(1.1)
        during = world.database.epochs[-1].epoch_id
        world.feed.known[ETH] = evolve(world.feed.known[ETH], status=InstrumentStatus.ONLINE)
        world.feed.told.on_instruments([world.feed.known[ETH]])
        await anyio.sleep(1.1)

    assert [len(world.database.universes[n].execution) for n in sorted(world.database.universes)] == [2, 1, 2]
    assert world.database.universes[during].execution == (BTC,)
    assert world.database.instruments[ETH].status is InstrumentStatus.ONLINE
    assert world.seen.of("universe")[1]["why"] == {ETH: "status cancel_only"}
    assert world.feed.asked == [(BTC, ETH)], "it stays subscribed"


async def test_a_tick_change_is_published_at_once(clock: Any) -> None:
    world = World(clock, epoch_interval_s=60.0)

    async with world.running():
        await anyio.sleep(3.0)
        world.feed.known[ETH] = evolve(world.feed.known[ETH], price_increment=Decimal("0.5"))
        world.feed.told.on_instruments([world.feed.known[ETH]])
        await anyio.sleep(1.1)

    assert world.database.instruments[ETH].price_increment == Decimal("0.5")


async def test_a_delisted_symbol_is_no_longer_asked_for(clock: Any) -> None:
    world = World(clock, epoch_interval_s=2.0)

    async with world.running():
        await anyio.sleep(3.0)
        world.feed.known[ETH] = evolve(world.feed.known[ETH], status=InstrumentStatus.DELISTED)
        world.feed.told.on_instruments([world.feed.known[ETH]])
        await anyio.sleep(3.0)

    assert world.feed.asked == [(BTC, ETH), (BTC,)]
    assert world.database.status["ingest"][1]["universe"]["left_out"] == {"status delisted": 1}  # type: ignore[index]
    assert {"status delisted": 1} == world.seen.of("universe")[-1]["left_out"]


def quarantine(symbol: Symbol, channel: str = "book") -> Quarantine:
    return Quarantine(
        channel=channel, symbol=symbol, reason="checksum", age_s=1.0, attempts=3, is_refused=False, retry_in_s=1.0
    )


async def test_a_symbol_in_quarantine_counts_against_the_epoch_and_then_leaves_by_name(clock: Any) -> None:
    world = World(clock, epoch_interval_s=10.0)

    async with world.running():
        await anyio.sleep(3.0)
        world.feed.books[ETH].is_valid = False
        world.feed.state = evolve(HEALTH, quarantined=(quarantine(ETH),))
        await anyio.sleep(55.0)

    assert world.statuses() == [EpochStatus.VALID, *[EpochStatus.DEGRADED] * 5]
    assert world.database.universes[4].execution == (BTC, ETH)
    assert world.database.universes[6].execution == (BTC,)
    assert world.seen.of("universe")[-1]["why"] == {ETH: "book quarantined: checksum"}


async def test_a_symbol_that_the_venue_refuses_leaves_every_set_and_comes_back_after_its_rest(clock: Any) -> None:
    world = World(clock, epoch_interval_s=10.0)

    async with world.running():
        await anyio.sleep(3.0)
        world.feed.state = evolve(HEALTH, refused_l2={ETH: "Currency pair not supported"})
        await anyio.sleep(10.0)
        world.feed.state = HEALTH
        await anyio.sleep(3700.0)

    assert world.feed.asked == [(BTC, ETH), (BTC,), (BTC, ETH)]
    assert world.seen.of("universe")[1]["why"] == {ETH: "refused by the venue: Currency pair not supported"}


async def test_a_queue_is_fresh_only_while_its_own_connection_lives(clock: Any) -> None:
    world = World(clock)

    class Queue:
        is_valid = True

    queue: Any = Queue()
    world.feed.queue = lambda symbol: queue if symbol == BTC else None  # type: ignore[method-assign]
    universe = evolve(NO_UNIVERSE, execution=(BTC, ETH), l3=(BTC, ETH), pinned=(BTC,))

    def fresh(*ages_s: float) -> int:
        streams = tuple(
            StreamHealth(
                stream=f"level3-{n}", connected=True, symbols=1, heartbeat_age_s=age_s, lag_s=None, reconnects=0
            )
            for n, age_s in enumerate(ages_s)
        )
        world.feed.state = evolve(HEALTH, level3_enabled=True, streams=streams)
        return measure(world.feed, world.sink, universe, IngestSettings(), wants_l3=True).l3_fresh

    assert [fresh(), fresh(10.0), fresh(10.001), fresh(1.0, 11.0)] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("age_s", "lag_s", "fresh"), [(10.0, None, 2), (10.001, None, 0), (4.0, 6.0, 2), (4.0, 6.1, 0)]
)
async def test_a_book_is_fresh_while_its_connection_lives_whatever_its_own_age(
    clock: Any, age_s: float, lag_s: float | None, fresh: int
) -> None:
    world = World(clock)
    world.feed.books = {BTC: FixedBook(), ETH: FixedBook()}
    world.feed.state = evolve(HEALTH, heartbeat_age_s=age_s, lag_s=lag_s)
    universe = evolve(NO_UNIVERSE, execution=(BTC, ETH))

    assert measure(world.feed, world.sink, universe, IngestSettings(), wants_l3=True).l2_fresh == fresh


async def test_a_second_write_that_fails_is_loud_until_the_decision_database_is_whole(clock: Any) -> None:
    world = World(clock, epoch_interval_s=10.0)

    async with world.running():
        await anyio.sleep(1.0)
        world.seen.half = {"publish_epoch"}
        world.seen.away = {"publish_pending"}
        await anyio.sleep(15.0)
        status = dict(world.database.status["ingest"][1])
        world.seen.half, world.seen.away = set(), set()
        await anyio.sleep(2.0)

    behind = world.seen.of("decision_database_behind")
    assert [event["attempts"] for event in behind] == list(range(1, len(behind) + 1))
    assert 5 <= len(behind) <= 8
    assert status["decision_writes"]["attempts"] >= 5  # type: ignore[index]
    assert len(world.seen.of("decision_database_whole")) == 1
    assert world.database.status["ingest"][1]["decision_writes"] == {"behind_since": None, "attempts": 0}
    assert len(world.database.epochs) == 2, "no epoch is made twice"


async def test_pinned_symbols_that_cannot_be_read_stay_pinned(clock: Any) -> None:
    world = World(clock, epoch_interval_s=2.0)
    world.database.positions[VenueId("v"), ETH] = Position(
        symbol=ETH, qty=Decimal(1), cost_quote=Decimal(1), realized_quote=Decimal(0), opened_at=None, entry_id=None
    )

    async with world.running():
        await anyio.sleep(1.0)
        world.seen.away = {"pinned_symbols"}
        await anyio.sleep(4.0)

    assert len(world.database.universes) >= 3
    assert {universe.pinned for universe in world.database.universes.values()} == {(ETH,)}
    assert len(world.seen.of("pinned_not_read")) == 2


@pytest.mark.parametrize(
    "call",
    ["publish_instruments", "pinned_symbols", "publish_epoch", "publish_status", "prepare_run", "start_run"],
)
@pytest.mark.parametrize(
    "failure", [StoreConflict("22P05", "unsupported Unicode escape"), StoreError("InsufficientPrivilege: no")]
)
async def test_what_a_store_refuses_does_not_end_ingest(clock: Any, call: str, failure: Exception) -> None:
    world = World(clock, epoch_interval_s=2.0, run_settings=RunSettings(max_age_s=3.0, check_interval_s=1.0))

    async with world.running():
        await anyio.sleep(1.0)
        world.seen.failure, world.seen.away = failure, {call}
        world.feed.told.on_instruments(list(world.feed.known.values()))
        await anyio.sleep(10.0)
        world.seen.away = set()
        await anyio.sleep(5.0)

    assert len(world.database.epochs) >= 2


@pytest.mark.parametrize("call", ["start_lineage", "publish_instruments", "pinned_symbols"])
async def test_what_a_store_refuses_at_the_start_is_waited_for(clock: Any, call: str) -> None:
    world = World(clock)
    world.seen.failure, world.seen.away = StoreConflict("22P05", "refused"), {call}

    async with world.running():
        await anyio.sleep(5.0)
        world.seen.away = set()
        await anyio.sleep(5.0)

    assert world.statuses() == [EpochStatus.VALID]


async def test_an_end_that_is_refused_still_publishes_the_last_counters(clock: Any) -> None:
    world = World(clock, status_interval_s=60.0)

    async with world.running():
        await anyio.sleep(3.0)
        world.feed.state = evolve(HEALTH, book_ok=77)
        world.seen.failure, world.seen.away = StoreConflict("22P05", "refused"), {"end_run"}

    assert world.database.status["ingest"][1]["feed"]["book_ok"] == 77  # type: ignore[index]
