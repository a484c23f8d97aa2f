"""The in-memory index over order rows: joins sparse reports to orders and says what each one changes.

Enters: rows at start, new rows, reports of the executions feed, rows of queries, answers to our own requests. Leaves:
an `Applied` per input, whose change the caller commits as one transaction. Called by the engine's execution side; it
holds no clock and no store.

What it knows beyond the table: reports of an order may carry its order_id only, may come before the answer that tells
us that id, twice, late or out of order. An order closes only when the ledger holds all that the venue says was
filled. Queries lag the stream, so what the stream told last of quantity and prices stands against a query for as long
as the lag may last. Orders without our prefix are counted and left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import evolve

from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.applied import (
    Alarm,
    AlarmCode,
    Applied,
    event_row,
    fill_alarms,
    merged,
    order_alarm,
    step_detail,
)
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.fills import BookedFills, Fill, FillRefused, fill_from_query, fill_from_report
from krakenbot.domain.execution.ids import is_own
from krakenbot.domain.execution.order import (
    Order,
    OrderEvent,
    OrderState,
    ProtocolViolation,
    advance,
    with_fill,
)
from krakenbot.domain.execution.order_index import OrderIndex
from krakenbot.domain.execution.orphans import Orphans
from krakenbot.domain.execution.position import Position, apply_fill, is_exact
from krakenbot.domain.execution.reports import ExecType, ExecutionReport, VenueFill, VenueOrder
from krakenbot.domain.execution.state_data import check_data
from krakenbot.domain.execution.told import Told, ToldEnd
from krakenbot.domain.execution.venue_words import CLOSING, event_of_report, event_of_status
from krakenbot.domain.values import ClOrdId, ExecId, Side, Symbol, VenueOrderId

_GIVEN_UP = frozenset({OrderState.REJECTED, OrderState.NEVER_ACCEPTED})
_REQUESTS = frozenset(
    {OrderEvent.AMEND_SENT, OrderEvent.CANCEL_SENT, OrderEvent.AMEND_REFUSED, OrderEvent.CANCEL_REFUSED}
)


class OrderTracker(OrderIndex):
    """The index of one venue's orders, with what the venue says of them and the fills that are booked.

    `orphans_max` bounds the reports kept for order_ids not yet known, `closed_max` the closed orders kept for late
    reports, `foreign_max` the foreign order_ids remembered, `fills_max` the exec_ids. `query_lag_s` is how far a query
    may lie behind the stream.
    """

    def __init__(
        self,
        *,
        orphans_max: int = 1_000,
        closed_max: int = 2_000,
        foreign_max: int = 10_000,
        fills_max: int = 100_000,
        query_lag_s: float = 60.0,
    ) -> None:
        super().__init__(closed_max=closed_max)
        self._exec_ids = BookedFills(kept_max=fills_max)
        self._told = Told()
        self._orphans = Orphans(waiting_max=orphans_max, foreign_max=foreign_max)
        self._query_lag = timedelta(seconds=query_lag_s)
        self.duplicate_fills = 0

    # reading

    def has_fill(self, exec_id: ExecId) -> bool:
        """Tell whether a fill is booked."""
        return exec_id in self._exec_ids

    @property
    def exec_ids(self) -> frozenset[ExecId]:
        """Return the ids of booked fills, the newest of them."""
        return frozenset(self._exec_ids)

    def overdue(self, at: datetime, after_s: float) -> list[ClOrdId]:
        """Return orders that the venue closed at least `after_s` ago and whose fills are still missing."""
        return self._told.overdue(at, after_s)

    def lacking(self) -> list[Order]:
        """Return orders of which the venue has told of more than the ledger holds, or whose end waits for fills."""
        found = {cl for cl, total in self._told.totals().items() if total > self._orders[cl].cum_qty}
        return [self._orders[cl_ord_id] for cl_ord_id in sorted(found | self._told.ends())]

    def is_ended(self, cl_ord_id: ClOrdId) -> bool:
        """Tell whether the venue has closed an order of which fills are still missing: it rests no more."""
        return self._told.end(cl_ord_id) is not None

    def unsold_qty(self, symbol: Symbol) -> Decimal:
        """Return the position in base units, less what ended orders have sold by the venue's word and is not booked."""
        ended = (self._orders[cl_ord_id] for cl_ord_id in self._told.ends())
        sales = (order for order in ended if order.symbol == symbol and order.side is Side.SELL)
        missing = sum((self._told.total(order.cl_ord_id) - order.cum_qty for order in sales), Decimal(0))
        return max(Decimal(0), self.position(symbol).qty - missing)

    def orphans(self) -> int:
        """Return how many reports wait for their order_id to become known."""
        return len(self._orphans)

    @property
    def orphans_dropped(self) -> int:
        """Return how many waiting reports had to make room for newer ones."""
        return self._orphans.dropped

    @property
    def foreign_reports(self) -> int:
        """Return how many reports were of orders that are not ours."""
        return self._orphans.foreign_reports

    # rows

    def load(self, orders: Iterable[Order], positions: Iterable[Position], exec_ids: Iterable[ExecId]) -> None:
        """Take what the store holds at start."""
        for order in orders:
            self.add(order)
        self._put_positions(positions)
        self._exec_ids.update(exec_ids)

    def remember_booked(self, exec_ids: Iterable[ExecId]) -> None:
        """Take exec_ids that the store's ledger was found to hold."""
        self._exec_ids.update(exec_ids)

    def settle_orphans(self, foreign: Collection[VenueOrderId], before: datetime) -> None:
        """Forget waiting reports that a ladder has answered; what is older than `before` was answered by an earlier."""
        self._orphans.settle(foreign, before)

    def add(self, order: Order) -> None:
        """Take a committed row; a row that is known already is an error of ours."""
        invariant(order.cl_ord_id not in self._orders, "I2", f"{order.cl_ord_id} is tracked already")
        invariant(is_own(order.cl_ord_id), "I2", f"{order.cl_ord_id} is not an own id")
        self._put(order)

    def adopt(self, order: Order, at: datetime) -> Applied:
        """Take a row that was found in the store later, and the reports that waited for it."""
        if order.cl_ord_id not in self._orders:
            self.add(order)
        return self._release_orphans(order.cl_ord_id, at)

    # events

    def apply_event(
        self,
        cl_ord_id: ClOrdId,
        event: OrderEvent,
        *,
        at: datetime,
        venue_order_id: VenueOrderId | None = None,
        qty: Decimal | None = None,
        limit_price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        deadline_at: datetime | None = None,
        reason: str | None = None,
    ) -> Applied:
        """Take the outcome of an own request, or a proof."""
        invariant(cl_ord_id in self._orders, "I1", f"{cl_ord_id} has no row")
        invariant(event not in CLOSING, "I7", f"{event} comes from the venue")
        if event in {OrderEvent.ACKED, OrderEvent.AMENDED}:
            self._told.speak(cl_ord_id, at)
        applied = self._step(
            self._orders[cl_ord_id],
            event,
            at=at,
            venue_order_id=venue_order_id,
            qty=qty,
            limit_price=limit_price,
            trigger_price=trigger_price,
            deadline_at=deadline_at,
            reason=reason,
        )
        if venue_order_id is None:
            return applied
        return merged(applied, self._release_orphans(cl_ord_id, at))

    def apply_report(self, report: ExecutionReport, at: datetime) -> Applied:
        """Take one row of the executions channel."""
        cl_ord_id = report.cl_ord_id or self._ids.get(report.order_id)
        if report.cl_ord_id is not None and not is_own(report.cl_ord_id):
            self._orphans.count_foreign(report.order_id)
            return Applied()
        order = None if cl_ord_id is None else self._orders.get(cl_ord_id)
        if order is None and report.exec_id is not None and report.exec_id in self._exec_ids:
            # A snapshot repeats fills of orders that closed long ago.
            self.duplicate_fills += 1
            return Applied()
        if cl_ord_id is None:
            return self._keep_orphan(report)
        if order is None:
            return merged(self._keep_orphan(report), Applied(strangers=(report,)))
        if report.order_id in self._ids:
            return self._apply_known(order, report, at)
        self._name(report.order_id, cl_ord_id)
        if order.venue_order_id is None:
            named = Applied()
            order = self._put(evolve(order, venue_order_id=report.order_id))
        else:
            text = f"{report.order_id} beside {order.venue_order_id}"
            named = Applied(alarms=(order_alarm(order, AlarmCode.SECOND_VENUE_ORDER, text),), is_incomplete=True)
        applied = merged(named, self._apply_known(order, report, at))
        return merged(applied, self._release_orphans(cl_ord_id, at))

    def apply_venue_order(self, row: VenueOrder, at: datetime) -> Applied:
        """Take an own order's row of a query: its state, never its fills."""
        order = self._orders.get(row.cl_ord_id) if row.cl_ord_id else self.find(row.order_id)
        event = event_of_status(row.status)
        if order is None or event is None:
            return Applied()
        self._name(row.order_id, order.cl_ord_id)
        self._told.see_total(order.cl_ord_id, row.cum_qty)
        told_at = self._told.spoke_at(order.cl_ord_id)
        if event in CLOSING:
            end = ToldEnd(event=event, order_id=row.order_id, reason=row.reason, at=at)
            applied = self._close(order, end, row.cum_qty, at)
        elif order.state.is_terminal:
            # Queries lag the stream, so an "open" row of a closed order says nothing.
            return Applied()
        elif order.state is OrderState.PENDING_AMEND:
            # Told by a snapshot after the amend was sent: then the row can only be older.
            is_told = told_at is not None and order.state_at is not None and told_at > order.state_at
            applied = self._step(
                order,
                OrderEvent.AMENDED,
                at=at,
                qty=None if is_told else row.qty or None,
                limit_price=None if is_told else row.limit_price,
                trigger_price=None if is_told else row.trigger_price,
            )
        else:
            is_lagging = told_at is not None and at - told_at < self._query_lag
            applied = self._step(
                order,
                event,
                at=at,
                venue_order_id=row.order_id,
                qty=None if is_lagging else row.qty or None,
                limit_price=None if is_lagging else row.limit_price,
                trigger_price=None if is_lagging else row.trigger_price,
            )
        if event not in CLOSING:
            # This row is the answer that what is incomplete would ask for.
            applied = evolve(applied, is_incomplete=False)
        return merged(applied, self._release_orphans(order.cl_ord_id, at))

    def book_query_fill(self, order: Order, row: VenueFill, at: datetime) -> Applied:
        """Book a fill that the venue's trade history shows; one that is booked already changes nothing."""
        known = self._orders.get(order.cl_ord_id)
        if known is None:
            known = self._put(order)
        if row.exec_id in self._exec_ids:
            self.duplicate_fills += 1
            return Applied()
        # The ladder that shows a fill is the query that a missing one would ask for.
        return evolve(self._book(known, fill_from_query(known, row, at), at), is_incomplete=False)

    # inside

    def _forget(self, cl_ord_id: ClOrdId) -> None:
        super()._forget(cl_ord_id)
        self._told.forget(cl_ord_id)

    def _apply_known(self, order: Order, report: ExecutionReport, at: datetime) -> Applied:
        self._told.see_total(order.cl_ord_id, report.cum_qty)
        if report.exec_type is ExecType.TRADE:
            if report.exec_id is not None and report.exec_id in self._exec_ids:
                self.duplicate_fills += 1
                return Applied()
            return self._book(order, fill_from_report(order, report, at), at)
        event = event_of_report(report)
        if event is None:
            return Applied()
        if event in CLOSING:
            cum_qty = report.cum_qty
            if event is OrderEvent.FILLED:
                cum_qty = report.cum_qty or report.order_qty
            end = ToldEnd(event=event, order_id=report.order_id, reason=report.reason, at=at)
            return self._close(order, end, cum_qty, at)
        self._told.speak(order.cl_ord_id, at)
        # Only an amend and the rows of a snapshot tell quantity and prices as they are now.
        is_news = event in {OrderEvent.AMENDED, OrderEvent.REPORT_NEW}
        applied = self._step(
            order,
            event,
            at=at,
            venue_order_id=order.venue_order_id or report.order_id,
            qty=(report.order_qty or None) if is_news else None,
            limit_price=report.limit_price if is_news else None,
            trigger_price=report.trigger_price if is_news else None,
        )
        after = self._orders[order.cl_ord_id]
        is_lacking = self._told.total(order.cl_ord_id) > after.cum_qty
        return evolve(applied, is_incomplete=applied.is_incomplete or is_lacking)

    def _close(self, order: Order, end: ToldEnd, cum_qty: Decimal | None, at: datetime) -> Applied:
        """Close an order when the ledger holds all of its fills; else remember that the venue closed it."""
        if end.event is OrderEvent.FILLED and not cum_qty:
            cum_qty = order.qty
        total = self._told.see_total(order.cl_ord_id, cum_qty)
        order_id = order.venue_order_id or end.order_id
        if order.cum_qty < total and not order.state.is_terminal:
            self._told.keep_end(order.cl_ord_id, end)
            # What has an end was accepted: the row says so, or a late refusal or a proof could still give it up.
            applied = self._step(order, OrderEvent.REPORT_PENDING_NEW, at=at, venue_order_id=order_id)
            return evolve(applied, is_incomplete=True)
        self._told.settle_end(order.cl_ord_id)
        applied = self._step(order, end.event, at=at, reason=end.reason, venue_order_id=order_id)
        return evolve(applied, is_incomplete=applied.is_incomplete or order.cum_qty < total)

    def _book(self, order: Order, fill: Fill | FillRefused, at: datetime) -> Applied:
        # Refused before anything is changed: an error would end the process, and a snapshot repeats its fills.
        if isinstance(fill, Fill) and not is_exact(self.position(fill.symbol), fill, order.cum_qty):
            reason = f"{fill.qty} for {fill.cost}, fee {fill.fee_qty}: more digits than can be counted"
            fill = FillRefused(exec_id=fill.exec_id, reason=reason)
        if isinstance(fill, FillRefused):
            detail = f"{fill.exec_id}: {fill.reason}"
            return Applied(alarms=(order_alarm(order, AlarmCode.FILL_REFUSED, detail),), is_incomplete=True)
        invariant(fill.exec_id not in self._exec_ids, "I3", f"{fill.exec_id} is booked already")
        self._exec_ids.add(fill.exec_id)
        filled = self._put(with_fill(order, fill.qty))
        position = apply_fill(self.position(fill.symbol), fill)
        self._put_positions((position,))
        if fill.side is Side.BUY:
            self._last_entry[fill.symbol] = fill.cl_ord_id
        booked = Applied(
            change=OrderChange(orders=(filled,), fills=(fill,), positions=(position,)),
            alarms=fill_alarms(order, filled, position, fill),
            # Where one fill came late there may be more, and the order may even be alive.
            is_incomplete=order.state.is_terminal,
        )
        detail_fields: dict[str, object] = {"exec_id": fill.exec_id, "qty": str(fill.qty), "price": str(fill.price)}
        if filled.state.is_terminal:
            row = event_row(filled, OrderEvent.TRADE, filled.state, at, detail_fields)
            booked = merged(booked, Applied(change=OrderChange(events=(row,))))
        else:
            stepped = self._step(
                filled, OrderEvent.TRADE, at=at, venue_order_id=fill.venue_order_id, detail=detail_fields
            )
            booked = merged(booked, stepped)
        end = self._told.end(order.cl_ord_id)
        current = self._orders[order.cl_ord_id]
        if end is None or current.cum_qty < self._told.total(order.cl_ord_id):
            return booked
        return merged(booked, self._close(current, end, current.cum_qty, at))

    def _step(
        self,
        order: Order,
        event: OrderEvent,
        *,
        at: datetime,
        venue_order_id: VenueOrderId | None = None,
        qty: Decimal | None = None,
        limit_price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        deadline_at: datetime | None = None,
        reason: str | None = None,
        detail: dict[str, object] | None = None,
    ) -> Applied:
        is_below = qty is not None and qty < order.cum_qty
        outcome = advance(
            order,
            event,
            at=at,
            venue_order_id=venue_order_id,
            # A total below what is filled is wrong, or older than the fills: nothing is left to fill then.
            qty=order.cum_qty if is_below else qty,
            limit_price=limit_price,
            trigger_price=trigger_price,
            deadline_at=deadline_at,
            reason=reason,
        )
        if isinstance(outcome, ProtocolViolation):
            # Word of an order that was given up: the venue has it, so it is looked for and cancelled.
            is_alive = order.state in _GIVEN_UP and event not in _REQUESTS
            code = AlarmCode.ALIVE_AFTER_END if is_alive else AlarmCode.PROTOCOL_VIOLATION
            alarm = order_alarm(order, code, f"{event} in {order.state}")
            return Applied(alarms=(alarm,), is_incomplete=is_alive)
        alarms = (order_alarm(order, AlarmCode.OVERFILLED, f"{order.cum_qty} filled of {qty}"),) if is_below else ()
        if outcome.order == order and detail is None and event not in _REQUESTS:
            return Applied(alarms=alarms, is_incomplete=is_below)
        if outcome.order.state is not order.state:
            check_data(outcome.order)
        self._put(outcome.order)
        detail = detail or step_detail(reason, qty, trigger_price)
        row = event_row(outcome.order, event, outcome.from_state, at, detail)
        change = OrderChange(orders=(outcome.order,), events=(row,))
        return Applied(change=change, alarms=alarms, is_incomplete=is_below)

    def _keep_orphan(self, report: ExecutionReport) -> Applied:
        dropped = self._orphans.keep(report)
        if dropped is None:
            return Applied()
        alarm = Alarm(code=AlarmCode.ORPHAN_DROPPED, detail=f"{dropped.exec_type} of {dropped.order_id}")
        return Applied(alarms=(alarm,), is_incomplete=True)

    def _release_orphans(self, cl_ord_id: ClOrdId, at: datetime) -> Applied:
        """Apply the reports that waited for this order, in the order in which they came."""
        order = self._orders[cl_ord_id]
        mine = self._orphans.take(lambda r: cl_ord_id in {r.cl_ord_id, self._ids.get(r.order_id)})
        released = Applied()
        for report in mine:
            self._name(report.order_id, cl_ord_id)
            order = self._orders[cl_ord_id]
            released = merged(released, self._apply_known(order, report, at))
        return released
