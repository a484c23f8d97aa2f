"""Markouts of own fills: where the live mid stands 1, 5, 30 and 300 seconds after each.

Enters: fills as they are booked, live books. Leaves: one row per fill and horizon; a horizon without a valid book is
counted as missed, never guessed.
"""

from __future__ import annotations

import heapq
from decimal import Decimal

import anyio

from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.execution.exits import markout_bps
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.values import Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.market_feed import MarketFeed
from krakenbot.ports.order_store import OrderStore

HORIZONS_S = (1.0, 5.0, 30.0, 300.0)
_PENDING_MAX = 10_000


class MarkoutRecorder:
    """Waits out the horizons of own fills."""

    def __init__(
        self, *, clock: Clock, market_feed: MarketFeed, order_store: OrderStore, settings: ExecutionSettings
    ) -> None:
        self._clock = clock
        self._feed = market_feed
        self._store = order_store
        self._settings = settings
        self._pending: list[tuple[float, str, float, Fill]] = []
        self.recorded = 0
        self.missed = 0

    def symbols(self) -> set[Symbol]:
        """Return symbols whose book is still needed."""
        return {fill.symbol for *_, fill in self._pending}

    def take(self, fill: Fill) -> None:
        """Take a fill; its age when seen counts towards the horizons."""
        age_s = (self._clock.now() - fill.at).total_seconds()
        for horizon_s in HORIZONS_S:
            if len(self._pending) >= _PENDING_MAX or age_s > horizon_s + 1.0:
                self.missed += 1
                continue
            due_mono = self._clock.mono() + horizon_s - max(age_s, 0.0)
            heapq.heappush(self._pending, (due_mono, fill.exec_id, horizon_s, fill))

    async def run(self) -> None:
        """Record markouts as they fall due, until cancelled."""
        while True:
            await self._clock.sleep(0.25)
            while self._pending and self._pending[0][0] <= self._clock.mono():
                _, _, horizon_s, fill = heapq.heappop(self._pending)
                await self._record(fill, horizon_s)

    async def _record(self, fill: Fill, horizon_s: float) -> None:
        mid = self._mid(fill.symbol)
        if mid is None:
            self.missed += 1
            return
        try:
            with anyio.fail_after(self._settings.store_timeout_s):
                await self._store.record_markout(
                    fill.exec_id, horizon_s, markout_bps(fill.price, mid, fill.side), self._clock.now(), fill.venue_id
                )
        except (StoreUnavailable, TimeoutError):
            self.missed += 1
            return
        self.recorded += 1

    def _mid(self, symbol: Symbol) -> Decimal | None:
        book = self._feed.book(symbol)
        instrument = self._feed.instruments().get(symbol)
        if book is None or instrument is None or not book.is_valid:
            return None
        bid, ask = book.best_bid(), book.best_ask()
        if bid is None or ask is None or self._clock.mono() - book.received_mono > 60.0:
            return None
        return (instrument.price_of(bid[0]) + instrument.price_of(ask[0])) / 2
