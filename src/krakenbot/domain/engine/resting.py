"""Keeps resting entries: holds them, cancels them when the flow turns toxic or their time is up.

Enters: live books of the symbols with an own entry. Leaves: cancels through the desk. The venue's GTD expiry stands
behind the local cancel, so an entry ends even when this process does not.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from krakenbot.domain.decision.queue_decision import (
    LiveView,
    QueueSettings,
    RestingAction,
    decide_resting,
    microprice_dev_without_own_bps,
)
from krakenbot.domain.engine.desk import OrderDesk
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.live_flow import LiveFlow
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.execution.exits import stands
from krakenbot.domain.execution.order import Order, OrderRole, OrderState
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.views import BookView
from krakenbot.domain.values import BPS, Side, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import MarketFeed

_CANCEL_AGAIN_S = 5.0


class RestingEntries:
    """Looks at every resting entry several times a second."""

    def __init__(
        self,
        *,
        clock: Clock,
        market_feed: MarketFeed,
        live_flow: LiveFlow,
        recorder: Recorder,
        desk: OrderDesk,
        settings: ExecutionSettings,
        queue_settings: QueueSettings,
        btc_symbol: Symbol,
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._feed = market_feed
        self._flow = live_flow
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._desk = desk
        self._settings = settings
        self._queue_settings = queue_settings
        self._btc = btc_symbol
        self._sink = event_sink
        self.cancels: dict[str, int] = {}

    async def run(self) -> None:
        """Keep entries until cancelled."""
        while True:
            await self._clock.sleep(self._settings.monitor_interval_s)
            await self.look()

    async def look(self) -> None:
        """Look at every entry once."""
        at = self._clock.now()
        for order in self._tracker.live():
            if order.role is not OrderRole.ENTRY:
                continue
            reason = self._reason_to_cancel(order, at)
            if reason is None:
                continue
            if order.state is not OrderState.PENDING_CANCEL:
                self._sink.emit("entry_cancel", symbol=order.symbol, cl_ord_id=order.cl_ord_id, reason=reason)
                kind = reason.split(" ", 1)[0]
                self.cancels[kind] = self.cancels.get(kind, 0) + 1
            await self._desk.cancel(order.cl_ord_id)

    def _reason_to_cancel(self, order: Order, at: datetime) -> str | None:
        if order.state is OrderState.PENDING_CANCEL:
            # Either way: a clock that was set back is no reason to wait for so long.
            waited_s = abs((at - (order.state_at or order.created_at)).total_seconds())
            return "still_alive" if waited_s >= _CANCEL_AGAIN_S else None
        if not stands(order):
            return None
        if order.expire_at is not None and at >= order.expire_at:
            return "ttl over"
        if order.cum_qty > 0 and self._desk.is_in_reserve(order.symbol):
            # Each further partial fill would cost an amend of the stop, faster than the counter decays.
            return "reserve of the rate counter is touched"
        instrument = self._feed.instruments().get(order.symbol)
        if instrument is None:
            return None
        if any(o.role is OrderRole.MARKET_EXIT for o in self._tracker.live(order.symbol)):
            return "leaving at market"
        book = self._feed.book(order.symbol)
        if book is None or not self._has_been_seen(order, book, at):
            return None
        try:
            view = self._view(order, instrument, book, at)
        except ValueError:
            # The venue has changed the instrument, or tells a price or quantity that it can't have.
            return "finer than the instrument's precision"
        decision = decide_resting(view, self._queue_settings)
        return f"toxic: {decision.reason}" if decision.action is RestingAction.CANCEL else None

    def _has_been_seen(self, order: Order, book: BookView, at: datetime) -> bool:
        """Tell whether the live book may judge: its subscription began when the entry was sent, so it gets 5 s."""
        return book.is_valid or (at - order.created_at).total_seconds() >= self._settings.deadline_s

    def _view(self, order: Order, instrument: Instrument, book: BookView, at: datetime) -> LiveView:
        bid, ask = book.best_bid(), book.best_ask()
        own_ticks = instrument.ticks_of(order.limit_price or Decimal(0))
        microprice_bps = microprice_dev_without_own_bps(
            book.levels(Side.BUY, 2),
            book.levels(Side.SELL, 1),
            own_ticks,
            instrument.lots_of(order.open_qty),
        )
        spread_bps = away_bps = 0.0
        if bid is not None and ask is not None:
            mid = (bid[0] + ask[0]) / 2
            spread_bps = (ask[0] - bid[0]) / mid * BPS
            away_bps = (bid[0] - own_ticks) / mid * BPS
        rest_s = (at - order.created_at).total_seconds()
        edge, fill = order.record.get("edge"), order.record.get("fill")
        surplus_bps = _number(edge, "surplus_bps")
        # The same probability here and there: a move then gains nothing, so an entry is held or cancelled, not moved.
        p_fill = _number(fill, "p_fill")
        return LiveView(
            book_valid=book.is_valid and ask is not None and microprice_bps is not None,
            spread_bps=spread_bps,
            microprice_dev_bps=microprice_bps or 0.0,
            ofi_5s_z=self._flow.ofi_z(order.symbol),
            bid_queue_change_1s=self._flow.bid_change_1s(order.symbol) if away_bps <= 0 else None,
            btc_return_1s_sigmas=self._flow.return_1s_sigmas(self._btc),
            is_btc=order.symbol == self._btc,
            away_bps=away_bps,
            p_fill_hold=p_fill,
            p_fill_move=p_fill,
            surplus_bps=surplus_bps,
            rate_points=4.0,
            rest_s=rest_s,
            since_reprice_s=None,
        )


def _number(record: object, name: str) -> float:
    value = record.get(name) if isinstance(record, dict) else None
    return float(value) if isinstance(value, int | float) else 0.0
