"""Queue probes over a real L3 book, a store in memory and a clock that the test moves: budget, loss, markouts, rows."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from attrs import define, field
from tests.level3 import START, Order, whole_instrument

from krakenbot.adapters.memory.probe_store import MemoryProbeStore
from krakenbot.domain.engine.probes import ProbeSettings, QueueProbes
from krakenbot.domain.errors import StoreConflict, StoreError, StoreUnavailable
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.book import Verdict
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.probe import Probe, ProbeEnd
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.values import NS_PER_S, LineageId, Side, Symbol, VenueId

ABC, XYZ = Symbol("ABC/USD"), Symbol("XYZ/USD")
START_NS = utc_ns(START)
VENUE, LINEAGE = VenueId("test/venue"), LineageId(3)


@define
class Clock:
    mono_s: float = 0.0

    def mono(self) -> float:
        return self.mono_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ns() / NS_PER_S, UTC)

    def now_ns(self) -> int:
        return START_NS + round(self.mono_s * NS_PER_S)

    async def sleep(self, duration_s: float) -> None:
        self.mono_s += duration_s
        await anyio.lowlevel.checkpoint()


def make_book(bid: int = 1000, ask: int = 1004) -> L3Book:
    book = L3Book(price_precision=0, qty_precision=0, depth=10)
    load(book, bid, ask, START, 0.0)
    return book


def load(book: L3Book, bid: int, ask: int, at: str, now: float) -> None:
    bids, asks = [Order("A", float(bid), 10.0)], [Order("Z", float(ask), 10.0)]
    assert Verdict.GOOD is book.load(bids, asks, zlib.crc32(f"{ask}10{bid}10".encode()), at, now)


@define
class World:
    settings: ProbeSettings
    clock: Clock = field(factory=Clock)
    store: MemoryProbeStore = field(factory=MemoryProbeStore)
    books: dict[Symbol, L3Book] = field(factory=lambda: {ABC: make_book(), XYZ: make_book()})
    emitted: list[tuple[str, dict[str, object]]] = field(factory=list)
    told: list[str] = field(factory=list)
    probes: Any = None

    def __attrs_post_init__(self) -> None:
        self.probes = QueueProbes(
            clock=self.clock,
            feed=self,
            store=self.store,
            events=self,
            settings=self.settings,
            venue_id=VENUE,
        )

    def queue(self, symbol: Symbol) -> L3Book | None:
        return self.books.get(symbol)

    def instruments(self) -> dict[Symbol, Instrument]:
        return {symbol: whole_instrument(symbol) for symbol in (ABC, XYZ)}

    def emit(self, name: str, **fields: object) -> None:
        self.emitted.append((name, fields))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *_, **__: self.told.append(name)

    def go(self, duration_s: float, symbols: tuple[Symbol, ...] = (ABC, XYZ)) -> None:
        for _ in range(round(duration_s / 0.25)):
            self.clock.mono_s += 0.25
            self.probes.step(symbols)

    def followed(self) -> list[Probe]:
        return [probe for follower in self.probes._followers.values() for probe in follower.probes]

    def trade(
        self,
        price: int,
        lots: int = 1,
        trade_id: int = 1,
        side: Side = Side.SELL,
        *,
        symbol: Symbol = ABC,
        at_ns: int | None = None,
    ) -> None:
        at_ns = self.clock.now_ns() if at_ns is None else at_ns
        trade = PublicTrade(symbol=symbol, trade_id=trade_id, side=side, price_ticks=price, size_lots=lots, at_ns=at_ns)
        self.probes.on_trades([trade], is_snapshot=False)

    async def flush(self) -> list[Probe]:
        await self.probes._rows.flush(LINEAGE)
        return list(self.store.probes.values())


def make(**settings: Any) -> World:
    return World(ProbeSettings(**{"starts_per_s": 100.0, "match_s": 1.0, **settings}))


def test_budget_bounds_probes_of_a_symbol_and_overall():
    world = make(max_per_symbol=3)
    world.go(2.0)
    assert [3, 3] == [sum(probe.symbol == symbol for probe in world.followed()) for symbol in (ABC, XYZ)]

    small = make(max_per_symbol=3, max_active=4)
    small.go(2.0)
    assert 4 == len(small.followed())


def test_budget_bounds_starts_by_time():
    world = make(starts_per_s=1.0, max_per_symbol=16)
    world.go(10.0)

    assert 10 == world.probes.started


@pytest.mark.parametrize(("starts_per_s", "started"), [(0.5, 1), (1.0, 1), (4.0, 7)])
def test_budget_of_a_quiet_time_is_saved_for_a_second_at_most(starts_per_s, started):
    world = make(starts_per_s=starts_per_s, max_per_symbol=16)
    world.books = {}
    world.go(60.0)
    world.books = {ABC: make_book(), XYZ: make_book()}
    # each step can start one probe of each symbol
    world.go(1.0)

    assert started == world.probes.started


def test_start_that_came_to_nothing_costs_no_budget():
    world = make(starts_per_s=1.0)
    world.books[XYZ].invalidate("checksum mismatch")
    # of the two symbols in turn one cannot be probed
    world.go(1.0)
    world.go(1.0)

    assert 2 == world.probes.started


def test_starts_go_round_the_symbols():
    world = make(starts_per_s=1.0, max_per_symbol=16)
    world.go(6.0)
    symbols = [probe.symbol for probe in sorted(world.followed(), key=lambda probe: probe.probe_no)]

    assert {ABC, XYZ} == set(symbols[:2])
    assert symbols[:2] * 3 == symbols


def test_status_names_the_venue_that_rows_are_of():
    assert VENUE == make().probes.status()["venue_id"]


def test_kinds_and_sides_come_in_turn():
    world = make(max_per_symbol=6)
    world.go(4.0, (ABC,))

    assert [("join", "buy"), ("join", "sell")] * 2 + [("improve", "buy"), ("improve", "sell")] == [
        (probe.kind.value, probe.side.value) for probe in world.followed()
    ]


def test_symbol_without_a_valid_book_gets_no_probe():
    world = make()
    world.books[XYZ].invalidate("checksum mismatch")
    world.go(2.0)

    assert {ABC} == {probe.symbol for probe in world.followed()}


@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        (lambda world: world.probes.on_lost(ABC, "checksum mismatch"), "book invalid: checksum mismatch"),
        (lambda world: world.probes.on_public_lost(), "trades lost"),
        (lambda world: (world.trade(1100, trade_id=1, side=Side.BUY), world.trade(1100, trade_id=3)), "trades lost"),
        (lambda world: world.go(0.25, ()), "not watched any more"),
    ],
)
async def test_what_cannot_be_followed_to_its_end_is_censored(lose, reason):
    world = make()
    # only one side, so that the trades which are lost are the only reason
    world.go(0.25, (ABC,))
    lose(world)
    rows = await world.flush()

    assert {(ProbeEnd.CENSORED, reason)} == {(probe.end, probe.end_reason) for probe in rows if probe.symbol == ABC}
    assert 0 == len(world.books[ABC].places)


@pytest.mark.parametrize(
    ("tell", "reasons"),
    [
        (lambda listener: listener.on_connection("public", up=False, reason="x"), {"trades lost"}),
        (lambda listener: listener.on_connection("public-2", up=False, reason="x"), {"trades lost"}),
        (lambda listener: listener.on_connection("public-2", up=True, reason=""), set()),
        # its books say themselves that they were lost
        (lambda listener: listener.on_connection("level3", up=False, reason="x"), set()),
        (lambda listener: listener.on_validity(ABC, "l3", valid=False, reason="x"), {"book invalid: x"}),
        (lambda listener: listener.on_validity(ABC, "l2", valid=False, reason="x"), set()),
        (lambda listener: listener.on_validity(ABC, "l3", valid=True, reason=""), set()),
    ],
)
async def test_losses_that_the_feed_tells_of_censor_what_they_concern(tell, reasons):
    world = make()
    world.go(0.25, (ABC,))
    tell(world.probes.listen(world))

    assert reasons == {probe.end_reason for probe in await world.flush()}


async def test_fill_is_priced_at_every_horizon_and_stored_whole():
    world = make(max_per_symbol=1)
    world.go(0.25, (ABC,))
    (probe,) = world.followed()
    world.clock.mono_s = 1.0
    world.trade(999)
    for until_s, bid in ((3.0, 1002), (20.0, 996), (40.0, 990), (400.0, 980), (1790.0, 980), (1810.0, 1010)):
        load(world.books[ABC], bid, bid + 4, START, 0.0)
        while world.clock.mono_s < until_s:
            world.clock.mono_s += 0.25
            world.probes.step((ABC,) if world.clock.mono_s < 2.0 else ())

    rows = [row for row in await world.flush() if row.probe_no == probe.probe_no]
    assert [(ProbeEnd.SWEPT, 0.75)] == [(row.end, row.rest_s) for row in rows]
    assert [40.0, -20.0, -80.0, -180.0, 120.0] == pytest.approx(rows[0].markouts_bps)


async def test_horizon_without_a_valid_book_stays_empty():
    world = make(max_per_symbol=1)
    world.go(0.25, (ABC,))
    world.trade(999)
    world.clock.mono_s += 0.01
    world.trade(999, trade_id=2)
    world.books[ABC].invalidate("checksum mismatch")
    world.probes.on_lost(ABC, "checksum mismatch")
    world.go(1900.0, ())
    (row,) = [probe for probe in await world.flush() if probe.end is not ProbeEnd.CENSORED]

    assert (ProbeEnd.SWEPT, [None] * 5) == (row.end, row.markouts_bps)


async def test_book_whose_time_stands_behind_keeps_no_other_symbol_from_its_markouts():
    world = make(max_per_symbol=1)
    world.go(0.25)
    for symbol in (XYZ, ABC):
        world.clock.mono_s += 0.1
        world.trade(999, symbol=symbol)
    world.go(2.0)
    for _ in range(160):
        # as on a connection that is served late
        load(world.books[XYZ], 1000, 1004, START, world.clock.mono_s)
        world.go(0.25, ())
    await world.probes.end(LINEAGE)
    rows = {row.symbol: row.markouts_bps for row in world.store.probes.values() if row.end is ProbeEnd.SWEPT}

    assert [True, True, True, False, False] == [value is not None for value in rows[ABC]]


async def test_fill_whose_process_stood_still_until_the_last_horizon_keeps_its_row():
    world = make(max_per_symbol=1)
    world.go(0.25, (ABC,))
    world.clock.mono_s += 0.1
    world.trade(999)
    world.clock.mono_s += 1801.0
    world.go(2.0, (ABC,))
    (row,) = [row for row in await world.flush() if row.end is ProbeEnd.SWEPT]

    assert [True, True, True, True, False] == [value is None for value in row.markouts_bps]


async def test_store_that_is_away_is_said_once_and_its_rows_wait():
    class Away(MemoryProbeStore):
        is_away = True

        async def record(self, *args: Any) -> None:
            if self.is_away:
                raise StoreUnavailable("away")
            await super().record(*args)

    store = Away()
    world = World(ProbeSettings(starts_per_s=100.0), store=store)
    world.go(0.5)
    world.probes.on_lost(ABC, "gone")
    await world.flush()
    await world.flush()
    assert [("probes_not_recorded", {"reason": "away", "waiting": 2})] == world.emitted
    store.is_away = False

    assert 2 == len(await world.flush())
    assert (2, 0, 0) == tuple(world.probes.status()[key] for key in ("recorded", "waiting_rows", "dropped"))


async def test_row_that_a_constraint_refuses_is_dropped_alone_and_said():
    class Strict(MemoryProbeStore):
        async def record(self, venue_id: VenueId, lineage_id: LineageId, probes: Any) -> None:
            if any(probe.probe_no == 3 for probe in probes):
                raise StoreConflict("price_check")
            await super().record(venue_id, lineage_id, probes)

    world = World(ProbeSettings(starts_per_s=100.0, max_per_symbol=4), store=Strict())
    world.go(2.0)
    await world.probes.end(LINEAGE)

    assert [1, 2, 4, 5, 6, 7, 8] == sorted(probe.probe_no for probe in world.store.probes.values())
    assert [("probe_refused", 3, "price_check")] == [
        (name, fields["number"], fields["reason"]) for name, fields in world.emitted
    ]
    assert (7, 0, 1) == tuple(world.probes.status()[key] for key in ("recorded", "waiting_rows", "dropped"))


async def test_store_without_its_table_is_waited_for_like_one_that_is_away():
    class Unmigrated(MemoryProbeStore):
        async def record(self, *_: Any) -> None:
            raise StoreError("UndefinedTable: queue_probes")

    world = World(ProbeSettings(starts_per_s=100.0), store=Unmigrated())
    world.go(0.5)
    world.probes.on_lost(ABC, "gone")
    await world.flush()

    assert [("probes_not_recorded", {"reason": "UndefinedTable: queue_probes", "waiting": 2})] == world.emitted
    assert (0, 2) == tuple(world.probes.status()[key] for key in ("recorded", "waiting_rows"))


@pytest.mark.parametrize("ahead_s", [0, 10**6])
async def test_trade_with_a_wild_id_does_not_hide_the_trades_after_it(ahead_s):
    world = make(max_per_symbol=1)
    world.trade(1100, trade_id=1, side=Side.BUY)
    world.trade(1100, trade_id=10**15, side=Side.BUY, at_ns=world.clock.now_ns() + ahead_s * NS_PER_S)
    world.clock.mono_s += 61.0
    world.trade(1100, trade_id=2, side=Side.BUY)
    load(world.books[ABC], 1000, 1004, START, world.clock.mono_s)
    world.go(0.25, (ABC,))
    world.clock.mono_s += 0.1
    world.trade(999, trade_id=3)
    world.go(2.0, (ABC,))

    assert ProbeEnd.SWEPT in world.probes.ends


async def test_ids_that_begin_anew_censor_what_is_followed():
    world = make(max_per_symbol=1)
    world.trade(1100, trade_id=9, side=Side.BUY)
    world.go(0.25, (ABC,))
    world.trade(1100, trade_id=2, side=Side.BUY)
    rows = await world.flush()

    assert [(ProbeEnd.CENSORED, "trades lost")] == [(row.end, row.end_reason) for row in rows]


def test_repeated_trade_is_counted_once():
    world = make(max_per_symbol=1)
    world.go(0.25, (ABC,))
    at_ns = world.clock.now_ns()
    for _ in range(2):
        world.trade(1000, lots=4, trade_id=1, at_ns=at_ns)
    (follower,) = world.probes._followers.values()
    load(world.books[ABC], 1000, 1004, START, world.clock.mono_s)
    world.trade(999, lots=3, trade_id=1, at_ns=at_ns)

    assert 0 == follower.probes[0].place.through_lots
    assert follower.probes[0].end is None


async def test_end_censors_and_stores_what_is_followed_and_what_waits_for_markouts():
    world = make(max_per_symbol=1)
    world.go(0.25)
    world.clock.mono_s += 0.1
    world.trade(999)
    world.go(3.0)
    await world.probes.end(LINEAGE)
    rows = list(world.store.probes.values())

    assert {"swept": 1, "censored": len(rows) - 1} == {
        end: sum(row.end == end for row in rows) for end in ("swept", "censored")
    }
    assert [] == world.followed()
    swept = next(row for row in rows if row.end is ProbeEnd.SWEPT)
    assert [True, False, False] == [value is not None for value in swept.markouts_bps[:3]]


async def test_run_starts_stores_and_keeps_to_its_days():
    world = make(keep_days=1, timeout_s=5.0)
    with anyio.move_on_after(5.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.probes.run, LINEAGE, lambda: (ABC,))
            while not world.store.probes:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    assert {ProbeEnd.TIMEOUT} == {probe.end for probe in world.store.probes.values()}
    assert {(VENUE, LINEAGE)} == {key[:2] for key in world.store.probes}


def test_probes_that_are_off_leave_the_listener_as_it_is():
    world = make(enabled=False)

    assert world.probes.listen(world) is world


def test_other_listener_hears_everything():
    world = make()
    listener: Any = world.probes.listen(world)
    listener.on_instruments([])
    listener.on_book(ABC)
    listener.on_queue(ABC)
    listener.on_trades([], is_snapshot=False)
    listener.on_ticker(None)
    listener.on_validity(ABC, "l3", valid=False, reason="x")
    listener.on_connection("public", up=False, reason="x")
    listener.on_reconnect(None)

    assert [
        "on_instruments",
        "on_book",
        "on_queue",
        "on_trades",
        "on_ticker",
        "on_validity",
        "on_connection",
        "on_reconnect",
    ] == world.told
