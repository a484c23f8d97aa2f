"""What the position monitor sees of a symbol: its position, its stop, its book, and the plan of its entry.

Enters: the tracker, the live feed, and the entry's row. Leaves: one `Holding` per look. Called by the monitor only.
"""

from __future__ import annotations

from datetime import datetime

import anyio

from krakenbot.domain.engine.desk import OrderDesk
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.protection import Cover
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.engine.steady_time import SteadyTime
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.execution.exits import FALLBACK_PROFILE, Holding, Touch, profile_from_record, stands
from krakenbot.domain.execution.order import Order, OrderRole, OrderState
from krakenbot.domain.execution.position import Position
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.values import ClOrdId, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import MarketFeed
from krakenbot.ports.order_store import OrderStore

_LEARN_AGAIN_S = 10.0


class HoldingReader:
    """Reads one symbol at a time.

    `instruments` are those known at start; the live feed's own are newer and go first. `doubtful` are stops of an
    earlier process, which count for nothing while their outcome is unknown.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        market_feed: MarketFeed,
        order_store: OrderStore,
        recorder: Recorder,
        desk: OrderDesk,
        settings: ExecutionSettings,
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._time = SteadyTime(clock)
        self._feed = market_feed
        self._store = order_store
        self._tracker = recorder.tracker
        self._desk = desk
        self._settings = settings
        self._sink = event_sink
        self.instruments: dict[Symbol, Instrument] = {}
        self.doubtful: set[ClOrdId] = set()

    def now(self) -> datetime:
        """Return the time by the steady clock, as it was when this process began: no step of the wall clock ages it."""
        return self._time.now()

    async def read(self, symbol: Symbol, cover: Cover) -> Holding | None:
        """Return what the exits see of a symbol; None without its instrument."""
        position = self._tracker.position(symbol)
        instrument = self._feed.instruments().get(symbol) or self.instruments.get(symbol)
        if instrument is None:
            if position.qty > 0:
                self._sink.emit("instrument_missing", symbol=symbol)
            return None
        await self._learn(symbol, cover, position)
        touch = self._touch(symbol, instrument)
        if touch is not None:
            cover.peak_bid = touch.bid if cover.peak_bid is None else max(cover.peak_bid, touch.bid)
        open_entries = [order for order in self._tracker.live(symbol) if order.role is OrderRole.ENTRY]
        live = [order for order in self._tracker.live(symbol) if not self._tracker.is_ended(order.cl_ord_id)]
        stop = self.best_stop(live)
        if stop is not None and stop.trigger_price is not None and stands(stop):
            cover.floor_price = max(cover.floor_price or stop.trigger_price, stop.trigger_price)
        at = self.now()
        take_profit = next((o for o in live if o.role is OrderRole.TAKE_PROFIT and not is_unknown(o)), None)
        cover.note_take_profit(take_profit, at)
        return Holding(
            at=at,
            instrument=instrument,
            position=position,
            unsold_qty=self._tracker.unsold_qty(symbol),
            profile=cover.profile or FALLBACK_PROFILE,
            entry_price=cover.entry_price,
            opened_at=cover.opened_at or at,
            entry_is_live=bool(open_entries),
            stop=stop,
            take_profit=take_profit,
            take_profit_since=cover.take_profit_since,
            touch=touch,
            peak_bid=cover.peak_bid,
            floor_price=cover.floor_price,
            bare_since=cover.bare_since,
            stop_changed_at=cover.stop_changed_at,
            amend_failing_since=cover.amend_failing_since,
            take_profit_ended_at=cover.take_profit_ended_at,
        )

    async def _learn(self, symbol: Symbol, cover: Cover, position: Position) -> None:
        """Find the exit profile of the newest entry: in memory first, then in the store.

        Dust of an older position may lie under a new one, so the newest entry counts, not the one that opened.
        """
        entry_id = self._tracker.last_entry(symbol)
        again = cover.learn_again_mono is not None and self._clock.mono() >= cover.learn_again_mono
        if cover.profile is not None and cover.entry_id == entry_id and not again:
            return
        row = await self._find_row(symbol, cover, entry_id)
        profile = None if row is None else profile_from_record(row.record)
        if profile is None:
            self._sink.emit("profile_missing", symbol=symbol, entry_id=entry_id)
        if cover.entry_id != entry_id:
            cover.peak_bid = cover.floor_price = cover.take_profit_ended_at = None
            cover.failures = 0
        cover.entry_id = entry_id
        cover.profile = profile or FALLBACK_PROFILE
        is_entry = row is not None and row.role is OrderRole.ENTRY
        limit_price = row.limit_price if row is not None and is_entry else None
        cover.entry_price = limit_price or position.average_price or cover.entry_price
        opened_at = position.opened_at if position.entry_id == entry_id or row is None else row.state_at
        opened_at = opened_at or position.opened_at
        cover.opened_at = None if opened_at is None else min(opened_at, self.now())

    async def _find_row(self, symbol: Symbol, cover: Cover, entry_id: ClOrdId | None) -> Order | None:
        cover.learn_again_mono = None
        if entry_id is None:
            return None
        row = self._tracker.get(entry_id) or self._intent_of(symbol, entry_id)
        if row is not None:
            return row
        try:
            with anyio.fail_after(self._settings.store_timeout_s):
                return await self._store.find_order(entry_id)
        except (StoreUnavailable, TimeoutError) as error:
            cover.learn_again_mono = self._clock.mono() + _LEARN_AGAIN_S
            self._sink.emit("profile_waits_for_store", symbol=symbol, error=str(error))
            return None

    def _intent_of(self, symbol: Symbol, entry_id: ClOrdId) -> Order | None:
        """Return the intent that was made with an entry and holds its plan; later stops of it hold none."""
        children = (o for o in self._tracker.live(symbol) if o.parent_id == entry_id)
        return next((o for o in children if profile_from_record(o.record) is not None), None)

    def best_stop(self, live: list[Order]) -> Order | None:
        """Return the stop that counts: one that stands before one in flight; unsent and doubtful ones are none."""
        stops = [
            o
            for o in live
            if o.role is OrderRole.PROTECTIVE_STOP
            and not self._desk.is_fresh_intent(o)
            and not (is_unknown(o) and o.cl_ord_id in self.doubtful)
        ]
        return max(stops, key=lambda o: (stands(o), o.open_qty, o.cl_ord_id), default=None)

    def _touch(self, symbol: Symbol, instrument: Instrument) -> Touch | None:
        book = self._feed.book(symbol)
        if book is None or not book.is_valid:
            return None
        bid, ask = book.best_bid(), book.best_ask()
        if bid is None or ask is None:
            return None
        # A quiet book is not a stale one: while the connection's heartbeat is fresh the book is as of now.
        health = self._feed.health()
        age_s = self._clock.mono() - book.received_mono
        heartbeat_s = health.heartbeat_age_s
        if health.connected and heartbeat_s is not None and heartbeat_s <= 2.0:
            age_s = min(age_s, max(0.0, heartbeat_s - 1.0))
        return Touch(bid=instrument.price_of(bid[0]), ask=instrument.price_of(ask[0]), age_s=age_s)


def is_unknown(order: Order) -> bool:
    """Tell whether nobody knows what became of an order."""
    return order.state is OrderState.UNKNOWN
