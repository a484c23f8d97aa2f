"""The in-memory index over order rows: joins sparse reports to orders and says what each one changes.

Enters: rows at start, new rows, reports of the executions feed, rows of queries, answers to our own requests. Leaves:
an `Applied` per input, whose change the caller commits as one transaction. Called by the engine's execution side; it
holds no clock and no store.

What it knows beyond the table: reports of an order may carry its order_id only, may come before the answer that tells
us that id, twice, late or out of order. An order closes only when the ledger holds all that the venue says was
filled. Orders without our prefix are counted and left alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import evolve, frozen

from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.applied import Alarm, AlarmCode, Applied, merged
from krakenbot.domain.execution.change import OrderChange, OrderEventRow
from krakenbot.domain.execution.fills import Fill, FillRefused, fill_from_query, fill_from_report
from krakenbot.domain.execution.ids import is_own
from krakenbot.domain.execution.order import (
    Order,
    OrderEvent,
    OrderState,
    ProtocolViolation,
    advance,
    with_fill,
)
from krakenbot.domain.execution.position import Position, apply_fill, flat_position
from krakenbot.domain.execution.reports import ExecType, ExecutionReport, VenueFill, VenueOrder
from krakenbot.domain.values import ClOrdId, ExecId, Side, Symbol, VenueOrderId


@frozen(kw_only=True)
class _Closing:
    event: OrderEvent
    cum_qty: Decimal
    reason: str | None
    at: datetime


_REPORT_EVENTS = {
    ExecType.PENDING_NEW: OrderEvent.REPORT_PENDING_NEW,
    ExecType.NEW: OrderEvent.REPORT_NEW,
    ExecType.AMENDED: OrderEvent.AMENDED,
    ExecType.RESTATED: OrderEvent.AMENDED,
    ExecType.FILLED: OrderEvent.FILLED,
    ExecType.CANCELED: OrderEvent.CANCELED,
    ExecType.EXPIRED: OrderEvent.EXPIRED,
}
_STATUS_EVENTS = {
    "pending": OrderEvent.REPORT_PENDING_NEW,
    "pending_new": OrderEvent.REPORT_PENDING_NEW,
    "new": OrderEvent.REPORT_NEW,
    "open": OrderEvent.REPORT_NEW,
    "partially_filled": OrderEvent.REPORT_NEW,
    "filled": OrderEvent.FILLED,
    "closed": OrderEvent.FILLED,
    "canceled": OrderEvent.CANCELED,
    "expired": OrderEvent.EXPIRED,
}
_CLOSING_EVENTS = frozenset({OrderEvent.FILLED, OrderEvent.CANCELED, OrderEvent.EXPIRED})


class OrderTracker:
    """Orders, positions and booked exec_ids of one venue, in memory.

    `orphans_max` bounds the reports kept for order_ids not yet known, `closed_max` the closed orders kept for late
    reports, `foreign_max` the foreign order_ids remembered.
    """

    def __init__(self, *, orphans_max: int = 1_000, closed_max: int = 2_000, foreign_max: int = 10_000) -> None:
        self._orders: dict[ClOrdId, Order] = {}
        self._live: set[ClOrdId] = set()
        self._last_entry: dict[Symbol, ClOrdId] = {}
        self._ids: dict[VenueOrderId, ClOrdId] = {}
        self._closed: OrderedDict[ClOrdId, None] = OrderedDict()
        self._positions: dict[Symbol, Position] = {}
        self._exec_ids: set[ExecId] = set()
        self._closing: dict[ClOrdId, _Closing] = {}
        self._venue_cum: dict[ClOrdId, Decimal] = {}
        self._orphans: deque[ExecutionReport] = deque()
        self._foreign: OrderedDict[VenueOrderId, None] = OrderedDict()
        self._orphans_max = orphans_max
        self._closed_max = closed_max
        self._foreign_max = foreign_max
        self.foreign_reports = 0
        self.duplicate_fills = 0

    # reading

    def get(self, cl_ord_id: ClOrdId) -> Order | None:
        """Return an order that is live, or closed not long ago."""
        return self._orders.get(cl_ord_id)

    def find(self, order_id: VenueOrderId) -> Order | None:
        """Return the order that the venue knows by this id."""
        cl_ord_id = self._ids.get(order_id)
        return None if cl_ord_id is None else self._orders.get(cl_ord_id)

    def live(self, symbol: Symbol | None = None) -> list[Order]:
        """Return orders that are not terminal, in the order of their ids; of one symbol or of all."""
        found = [self._orders[cl_ord_id] for cl_ord_id in sorted(self._live)]
        return [order for order in found if symbol is None or order.symbol == symbol]

    def last_entry(self, symbol: Symbol) -> ClOrdId | None:
        """Return the entry of the newest buy fill of a symbol; after a restart, of the position."""
        return self._last_entry.get(symbol) or self.position(symbol).entry_id

    def position(self, symbol: Symbol) -> Position:
        """Return the position of a symbol; flat when it was never traded."""
        return self._positions.get(symbol) or flat_position(symbol)

    def positions(self) -> list[Position]:
        """Return positions with a quantity, by symbol."""
        return [self._positions[symbol] for symbol in sorted(self._positions) if self._positions[symbol].qty]

    def has_fill(self, exec_id: ExecId) -> bool:
        """Tell whether a fill is booked."""
        return exec_id in self._exec_ids

    @property
    def exec_ids(self) -> frozenset[ExecId]:
        """Return the ids of all booked fills."""
        return frozenset(self._exec_ids)

    def is_closing(self, cl_ord_id: ClOrdId) -> bool:
        """Tell whether the venue has closed an order whose fills are not all booked yet."""
        return cl_ord_id in self._closing

    def overdue(self, at: datetime, after_s: float) -> list[ClOrdId]:
        """Return orders that the venue closed at least `after_s` ago and whose fills are still missing."""
        horizon = at - timedelta(seconds=after_s)
        return sorted(cl_ord_id for cl_ord_id, closing in self._closing.items() if closing.at <= horizon)

    def orphans(self) -> int:
        """Return how many reports wait for their order_id to become known."""
        return len(self._orphans)

    # rows

    def load(self, orders: Iterable[Order], positions: Iterable[Position], exec_ids: Iterable[ExecId]) -> None:
        """Take what the store holds at start."""
        for order in orders:
            self.add(order)
        self._positions.update((position.symbol, position) for position in positions)
        self._exec_ids.update(exec_ids)

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
        invariant(event not in _CLOSING_EVENTS, "I7", f"{event} comes from the venue")
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
            return self._count_foreign(report.order_id)
        if cl_ord_id is None:
            return self._keep_orphan(report)
        order = self._orders.get(cl_ord_id)
        if order is None:
            return merged(self._keep_orphan(report), Applied(strangers=(report,)))
        newly_known = report.order_id not in self._ids
        if newly_known:
            self._ids[report.order_id] = cl_ord_id
            order = self._put(evolve(order, venue_order_id=report.order_id))
        applied = self._apply_known(order, report, at)
        return merged(applied, self._release_orphans(cl_ord_id, at)) if newly_known else applied

    def apply_venue_order(self, row: VenueOrder, at: datetime) -> Applied:
        """Take an own order's row of a query: its state, never its fills."""
        order = self._orders.get(row.cl_ord_id) if row.cl_ord_id else self.find(row.order_id)
        event = _STATUS_EVENTS.get(row.status)
        if order is None or event is None:
            return Applied()
        self._ids[row.order_id] = order.cl_ord_id
        self._see_cum(order.cl_ord_id, row.cum_qty)
        if event in _CLOSING_EVENTS:
            applied = self._close(order, event, row.cum_qty, row.reason, at)
        elif order.state.is_terminal:
            # Queries lag the stream, so an "open" row of a closed order says nothing.
            return Applied()
        elif order.state is OrderState.PENDING_AMEND:
            applied = self._step(
                order,
                OrderEvent.AMENDED,
                at=at,
                qty=row.qty,
                limit_price=row.limit_price,
                trigger_price=row.trigger_price,
            )
        else:
            applied = self._step(order, event, at=at, venue_order_id=row.order_id, qty=row.qty)
        return merged(applied, self._release_orphans(order.cl_ord_id, at))

    def book_query_fill(self, order: Order, row: VenueFill, at: datetime) -> Applied:
        """Book a fill that the venue's trade history shows; one that is booked already changes nothing."""
        known = self._orders.get(order.cl_ord_id)
        if known is None:
            known = self._put(order)
        if row.exec_id in self._exec_ids:
            self.duplicate_fills += 1
            return Applied()
        return self._book(known, fill_from_query(known, row, at), at)

    # inside

    def _put(self, order: Order) -> Order:
        before = self._orders.get(order.cl_ord_id)
        invariant(before is None or before.cum_qty <= order.cum_qty, "I8", f"{order.cl_ord_id}: cum_qty fell")
        invariant(
            before is None or not before.state.is_terminal or before.state is order.state,
            "I7",
            f"{order.cl_ord_id}: a terminal state was left",
        )
        self._orders[order.cl_ord_id] = order
        (self._live.discard if order.state.is_terminal else self._live.add)(order.cl_ord_id)
        if order.venue_order_id is not None:
            self._ids[order.venue_order_id] = order.cl_ord_id
        if order.state.is_terminal and order.cl_ord_id not in self._closed:
            self._closed[order.cl_ord_id] = None
            while len(self._closed) > self._closed_max:
                self._forget(self._closed.popitem(last=False)[0])
        return order

    def _forget(self, cl_ord_id: ClOrdId) -> None:
        order = self._orders.pop(cl_ord_id)
        self._venue_cum.pop(cl_ord_id, None)
        if order.venue_order_id is not None:
            self._ids.pop(order.venue_order_id, None)

    def _see_cum(self, cl_ord_id: ClOrdId, cum_qty: Decimal | None) -> Decimal:
        seen = max(self._venue_cum.get(cl_ord_id, Decimal(0)), cum_qty or Decimal(0))
        self._venue_cum[cl_ord_id] = seen
        return seen

    def _apply_known(self, order: Order, report: ExecutionReport, at: datetime) -> Applied:
        self._see_cum(order.cl_ord_id, report.cum_qty)
        if report.exec_type is ExecType.TRADE:
            if report.exec_id is not None and report.exec_id in self._exec_ids:
                self.duplicate_fills += 1
                return Applied()
            return self._book(order, fill_from_report(order, report, at), at)
        event = _REPORT_EVENTS.get(report.exec_type) or _STATUS_EVENTS.get(report.order_status or "")
        if event is None:
            return Applied()
        if event in _CLOSING_EVENTS:
            cum_qty = report.cum_qty
            if cum_qty is None and event is OrderEvent.FILLED:
                cum_qty = report.order_qty or order.qty
            return self._close(order, event, cum_qty, report.reason, at)
        is_amend = event is OrderEvent.AMENDED
        applied = self._step(
            order,
            event,
            at=at,
            venue_order_id=report.order_id,
            qty=report.order_qty if is_amend else None,
            limit_price=report.limit_price if is_amend else None,
            trigger_price=report.trigger_price if is_amend else None,
        )
        after = self._orders[order.cl_ord_id]
        return evolve(applied, is_incomplete=self._venue_cum[order.cl_ord_id] > after.cum_qty)

    def _close(
        self, order: Order, event: OrderEvent, cum_qty: Decimal | None, reason: str | None, at: datetime
    ) -> Applied:
        """Close an order when the ledger holds all of its fills; else remember that the venue closed it."""
        total = self._see_cum(order.cl_ord_id, cum_qty)
        if order.cum_qty < total and not order.state.is_terminal:
            self._closing.setdefault(order.cl_ord_id, _Closing(event=event, cum_qty=total, reason=reason, at=at))
            return Applied(is_incomplete=True)
        self._closing.pop(order.cl_ord_id, None)
        applied = self._step(order, event, at=at, reason=reason)
        incomplete = order.cum_qty < total
        return evolve(applied, is_incomplete=incomplete)

    def _book(self, order: Order, fill: Fill | FillRefused, at: datetime) -> Applied:
        if isinstance(fill, FillRefused):
            detail = f"{fill.exec_id}: {fill.reason}"
            alarm = Alarm(code=AlarmCode.FILL_REFUSED, detail=detail, cl_ord_id=order.cl_ord_id, symbol=order.symbol)
            return Applied(alarms=(alarm,), is_incomplete=True)
        invariant(fill.exec_id not in self._exec_ids, "I3", f"{fill.exec_id} is booked already")
        self._exec_ids.add(fill.exec_id)
        filled = self._put(with_fill(order, fill.qty))
        position = apply_fill(self.position(fill.symbol), fill)
        self._positions[fill.symbol] = position
        if fill.side is Side.BUY:
            self._last_entry[fill.symbol] = fill.cl_ord_id
        alarms = [
            Alarm(code=code, detail=detail, cl_ord_id=order.cl_ord_id, symbol=order.symbol)
            for code, detail in _fill_alarms(order, filled, position, fill)
        ]
        booked = Applied(
            change=OrderChange(orders=(filled,), fills=(fill,), positions=(position,)), alarms=tuple(alarms)
        )
        detail_fields: dict[str, object] = {"exec_id": fill.exec_id, "qty": str(fill.qty), "price": str(fill.price)}
        if filled.state.is_terminal:
            row = _event_row(filled, OrderEvent.TRADE, filled.state, at, detail_fields)
            booked = merged(booked, Applied(change=OrderChange(events=(row,))))
        else:
            stepped = self._step(
                filled, OrderEvent.TRADE, at=at, venue_order_id=fill.venue_order_id, detail=detail_fields
            )
            booked = merged(booked, stepped)
        closing = self._closing.get(order.cl_ord_id)
        current = self._orders[order.cl_ord_id]
        if closing is None or current.cum_qty < closing.cum_qty:
            return booked
        return merged(booked, self._close(current, closing.event, closing.cum_qty, closing.reason, at))

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
        outcome = advance(
            order,
            event,
            at=at,
            venue_order_id=venue_order_id,
            qty=qty,
            limit_price=limit_price,
            trigger_price=trigger_price,
            deadline_at=deadline_at,
            reason=reason,
        )
        if isinstance(outcome, ProtocolViolation):
            text = f"{event} in {order.state}"
            alarm = Alarm(
                code=AlarmCode.PROTOCOL_VIOLATION, detail=text, cl_ord_id=order.cl_ord_id, symbol=order.symbol
            )
            return Applied(alarms=(alarm,))
        if outcome.order == order and detail is None and event not in _REQUESTS:
            return Applied()
        self._put(outcome.order)
        row = _event_row(outcome.order, event, outcome.from_state, at, detail or _details(reason, qty, trigger_price))
        return Applied(change=OrderChange(orders=(outcome.order,), events=(row,)))

    def _keep_orphan(self, report: ExecutionReport) -> Applied:
        # A first row is complete; without a cl_ord_id it is not ours, and neither are the deltas after it. A trade
        # row may name its symbol and lack our id, so it waits.
        is_foreign_first = (
            report.cl_ord_id is None and report.symbol is not None and report.exec_type is not ExecType.TRADE
        )
        if report.order_id in self._foreign or is_foreign_first:
            return self._count_foreign(report.order_id)
        if report in self._orphans:
            return Applied()
        self._orphans.append(report)
        if len(self._orphans) <= self._orphans_max:
            return Applied()
        dropped = self._orphans.popleft()
        alarm = Alarm(code=AlarmCode.ORPHAN_DROPPED, detail=f"{dropped.exec_type} of {dropped.order_id}")
        return Applied(alarms=(alarm,), is_incomplete=True)

    def _count_foreign(self, order_id: VenueOrderId) -> Applied:
        self.foreign_reports += 1
        self._foreign[order_id] = None
        if len(self._foreign) > self._foreign_max:
            self._foreign.popitem(last=False)
        self._orphans = deque(report for report in self._orphans if report.order_id != order_id)
        return Applied()

    def _release_orphans(self, cl_ord_id: ClOrdId, at: datetime) -> Applied:
        """Apply the reports that waited for this order, in the order in which they came."""
        order = self._orders[cl_ord_id]
        mine = [r for r in self._orphans if cl_ord_id in {r.cl_ord_id, self._ids.get(r.order_id)}]
        if not mine:
            return Applied()
        self._orphans = deque(r for r in self._orphans if r not in mine)
        released = Applied()
        for report in mine:
            self._ids.setdefault(report.order_id, cl_ord_id)
            order = self._orders[cl_ord_id]
            released = merged(released, self._apply_known(order, report, at))
        return released


_REQUESTS = frozenset(
    {OrderEvent.AMEND_SENT, OrderEvent.CANCEL_SENT, OrderEvent.AMEND_REFUSED, OrderEvent.CANCEL_REFUSED}
)


def _details(reason: str | None, qty: Decimal | None, trigger_price: Decimal | None) -> dict[str, object]:
    pairs = {"reason": reason, "qty": qty, "trigger_price": trigger_price}
    return {name: str(value) for name, value in pairs.items() if value is not None}


def _event_row(
    order: Order, event: OrderEvent, from_state: OrderState, at: datetime, detail: dict[str, object]
) -> OrderEventRow:
    return OrderEventRow(
        cl_ord_id=order.cl_ord_id, at=at, event=event, from_state=from_state, to_state=order.state, detail=detail
    )


def _fill_alarms(before: Order, after: Order, position: Position, fill: Fill) -> list[tuple[AlarmCode, str]]:
    found = []
    if before.state.is_terminal:
        found.append((AlarmCode.LATE_FILL, f"{fill.exec_id}: {fill.qty} after {before.state}"))
    if after.cum_qty > after.qty:
        found.append((AlarmCode.OVERFILLED, f"{after.cum_qty} filled of {after.qty}"))
    if position.qty < 0:
        found.append((AlarmCode.OVERSOLD, f"position {position.qty} after {fill.exec_id}"))
    return found
