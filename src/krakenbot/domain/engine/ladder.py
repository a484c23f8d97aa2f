"""One ladder of queries: stream, open orders, closed orders, fills; and from when on the venue is asked.

Enters: the cursor of the last ladder that was applied whole. Leaves: what the venue showed, with the rows and the
booked fills that it speaks of brought into memory. Called by the reconciler.

The cursor is a time of the venue's own clock: the newest that a whole ladder showed, so no step of ours moves it. What
was invisible then can't be older than the longest lag of the queries; the look-back is three times that. It is stored
with the ledger, after the fills before it, and does not move while a known fill is missing.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import anyio
from attrs import frozen

from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.errors import VenueUnavailable
from krakenbot.domain.execution.ids import is_own
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.reconcile import Shortfall, VenueView, newest_shown, shortfalls
from krakenbot.domain.values import ClOrdId
from krakenbot.ports.clock import Clock
from krakenbot.ports.execution_feed import ExecutionFeed
from krakenbot.ports.order_store import OrderStore
from krakenbot.ports.venue_query import VenueQuery

_BALANCES_EVERY_S = 30.0
# Queries lag the stream by up to 60 s.
LOOK_BACK = timedelta(seconds=180)
_FIRST_LOOK_BACK = timedelta(hours=1)
# Pages wait for the rate counter, each for a bounded time; a long outage has many of them.
_HISTORY_TIMEOUT_S = 3_600.0


@frozen(kw_only=True)
class Asked:
    """What one ladder found; `short` is None when balances were not asked for. `since` is where histories began."""

    view: VenueView
    since: datetime
    short: tuple[Shortfall, ...] | None

    @property
    def cursor(self) -> datetime:
        """Return the venue's time up to which this ladder has shown everything, but for the queries' lag.

        Never beyond when it was asked: after one time far ahead nothing would be asked for any more.
        """
        return min(newest_shown(self.view) or self.since, self.view.at)


class Ladder:
    """Asks the venue; `cursor` is None until the first ladder, or start-up, has set it."""

    def __init__(
        self,
        *,
        clock: Clock,
        query: VenueQuery,
        execution_feed: ExecutionFeed,
        order_store: OrderStore,
        recorder: Recorder,
        settings: ExecutionSettings,
    ) -> None:
        self._clock = clock
        self._query = query
        self._feed = execution_feed
        self._store = order_store
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._settings = settings
        self._last_fill_at: datetime | None = None
        self._balances_mono: float | None = None
        self.cursor: datetime | None = None

    def start_from(self, reconciled_at: datetime | None, last_fill_at: datetime | None) -> None:
        """Take what the store knows; the newest fill stands in for a cursor that was never written."""
        self.cursor = reconciled_at
        self._last_fill_at = last_fill_at

    async def ask(self, doubted: Collection[ClOrdId]) -> Asked:
        """Climb one ladder; raises VenueUnavailable, VenueRejected, StoreUnavailable or TimeoutError.

        `doubted` are live orders that the last ladder did not show: the histories then begin before they were made.
        """
        at = self._clock.now()
        since = self._look_back(at, doubted)
        self._check_stream()
        with anyio.fail_after(self._settings.query_timeout_s):
            # Open orders before closed ones: an order that closes in between is then seen twice, not missed.
            open_orders = tuple(await self._query.open_orders())
        with anyio.fail_after(_HISTORY_TIMEOUT_S):
            closed_orders = tuple(await self._query.closed_orders(since))
            fills = tuple(await self._query.fills(since))
        with anyio.fail_after(self._settings.query_timeout_s):
            short = await self._ask_shortfalls()
        self._check_stream()
        view = VenueView(at=at, open_orders=open_orders, closed_orders=closed_orders, fills=fills)
        await self._load_rows(view)
        await self._learn_booked(view)
        return Asked(view=view, since=since, short=short)

    def rows_for(self, view: VenueView) -> Collection[Order]:
        """Return all live rows, and the closed ones that the view speaks of."""
        rows = {order.cl_ord_id: order for order in self._tracker.live()}
        for shown in (*view.open_orders, *view.closed_orders):
            row = self._tracker.find(shown.order_id)
            if row is None and shown.cl_ord_id is not None:
                row = self._tracker.get(shown.cl_ord_id)
            if row is not None:
                rows[row.cl_ord_id] = row
        for fill in view.fills:
            row = self._tracker.find(fill.order_id)
            if row is not None:
                rows[row.cl_ord_id] = row
        return rows.values()

    def settle(self, asked: Asked) -> None:
        """Forget waiting reports that this ladder has answered."""
        shown = (*asked.view.open_orders, *asked.view.closed_orders)
        foreign = {o.order_id for o in shown if not is_own(o.cl_ord_id) and self._tracker.find(o.order_id) is None}
        self._tracker.settle_orphans(foreign, asked.since)

    def _check_stream(self) -> None:
        # The stream is the first rung: what a query lacks, it must have had the chance to tell.
        if not self._feed.is_connected:
            raise VenueUnavailable("the executions feed is not connected")

    def _look_back(self, at: datetime, doubted: Collection[ClOrdId]) -> datetime:
        if self.cursor is None:
            bounds = [self._last_fill_at or at - _FIRST_LOOK_BACK, *(o.created_at for o in self._tracker.live())]
        else:
            bounds = [self.cursor]
            bounds += [o.created_at for cl in doubted if (o := self._tracker.get(cl)) is not None]
        return min(bounds) - LOOK_BACK

    async def _ask_shortfalls(self) -> tuple[Shortfall, ...] | None:
        """Return positions without their coins; None while the last look is recent, since every query costs points."""
        mono = self._clock.mono()
        if self._balances_mono is not None and mono - self._balances_mono < _BALANCES_EVERY_S:
            return None
        short = shortfalls(self._tracker.positions(), await self._query.balances())
        self._balances_mono = mono
        return short

    async def _load_rows(self, view: VenueView) -> None:
        """Load rows of own orders that the venue speaks of and memory no longer holds."""
        named = {order.cl_ord_id for order in (*view.open_orders, *view.closed_orders) if is_own(order.cl_ord_id)}
        for cl_ord_id in sorted(name for name in named if name is not None):
            if self._tracker.get(cl_ord_id) is None:
                with anyio.fail_after(self._settings.store_timeout_s):
                    row = await self._store.find_order(cl_ord_id)
                if row is not None:
                    self._recorder.take(self._tracker.adopt(row, view.at))

    async def _learn_booked(self, view: VenueView) -> None:
        """Ask the ledger about fills that memory does not hold: it holds the newest ones only."""
        new = [fill.exec_id for fill in view.fills if not self._tracker.has_fill(fill.exec_id)]
        if new:
            with anyio.fail_after(self._settings.store_timeout_s):
                self._tracker.remember_booked(await self._store.booked(new))
