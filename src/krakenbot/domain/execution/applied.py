"""What one input did to the tracker: rows to commit, alarms, and own orders that have no row.

Made by the tracker; read by the engine's recorder, which commits the change and tells the alarms.
"""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.execution.change import OrderChange, OrderEventRow
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order, OrderEvent, OrderState
from krakenbot.domain.execution.position import Position
from krakenbot.domain.execution.reports import ExecutionReport
from krakenbot.domain.values import ClOrdId, Symbol


class AlarmCode(enum.StrEnum):
    """What a person should know about an order."""

    PROTOCOL_VIOLATION = "protocol_violation"
    LATE_FILL = "late_fill"
    FILL_REFUSED = "fill_refused"
    OVERFILLED = "overfilled"
    OVERSOLD = "oversold"
    ORPHAN_DROPPED = "orphan_dropped"
    ALIVE_AFTER_END = "alive_after_end"
    """The venue speaks of an order that was rejected or proven absent."""
    SECOND_VENUE_ORDER = "second_venue_order"
    """The venue has two orders under one id of ours."""


@frozen(kw_only=True)
class Alarm:
    """One alarm; it changes nothing by itself."""

    code: AlarmCode
    detail: str
    cl_ord_id: ClOrdId | None = None
    symbol: Symbol | None = None


NO_CHANGE = OrderChange()


@frozen(kw_only=True)
class Applied:
    """What one input did: rows to commit, alarms, and own orders that have no row here.

    `is_incomplete` says that the venue knows more than we have seen, such as fills: ask it.
    """

    change: OrderChange = NO_CHANGE
    alarms: tuple[Alarm, ...] = ()
    strangers: tuple[ExecutionReport, ...] = ()
    is_incomplete: bool = False


def merged(first: Applied, second: Applied) -> Applied:
    """Join two results into one change; of an order or a position the later row is kept."""
    orders = {order.cl_ord_id: order for order in (*first.change.orders, *second.change.orders)}
    positions = {p.symbol: p for p in (*first.change.positions, *second.change.positions)}
    cursors = [at for at in (first.change.reconciled_at, second.change.reconciled_at) if at is not None]
    return Applied(
        change=OrderChange(
            orders=tuple(orders.values()),
            events=first.change.events + second.change.events,
            fills=first.change.fills + second.change.fills,
            positions=tuple(positions.values()),
            protection=first.change.protection + second.change.protection,
            reconciled_at=max(cursors, default=None),
            inserts=first.change.inserts + second.change.inserts,
            journal_ids=first.change.journal_ids + second.change.journal_ids,
        ),
        alarms=first.alarms + second.alarms,
        strangers=first.strangers + second.strangers,
        is_incomplete=first.is_incomplete or second.is_incomplete,
    )


def event_row(
    order: Order, event: OrderEvent, from_state: OrderState, at: datetime, detail: dict[str, object]
) -> OrderEventRow:
    """Return the log row of a step that led to an order's present state."""
    return OrderEventRow(
        cl_ord_id=order.cl_ord_id, at=at, event=event, from_state=from_state, to_state=order.state, detail=detail
    )


def step_detail(reason: str | None, qty: Decimal | None, trigger_price: Decimal | None) -> dict[str, object]:
    """Return what a step changed, for its log row."""
    pairs = {"reason": reason, "qty": qty, "trigger_price": trigger_price}
    return {name: str(value) for name, value in pairs.items() if value is not None}


def order_alarm(order: Order, code: AlarmCode, detail: str) -> Alarm:
    """Return an alarm about an order."""
    return Alarm(code=code, detail=detail, cl_ord_id=order.cl_ord_id, symbol=order.symbol)


def fill_alarms(before: Order, after: Order, position: Position, fill: Fill) -> tuple[Alarm, ...]:
    """Return what is wrong with a fill that has just been booked."""
    found = []
    if before.state.is_terminal:
        found.append(order_alarm(after, AlarmCode.LATE_FILL, f"{fill.exec_id}: {fill.qty} after {before.state}"))
    if after.cum_qty > after.qty:
        found.append(order_alarm(after, AlarmCode.OVERFILLED, f"{after.cum_qty} filled of {after.qty}"))
    if position.qty < 0:
        found.append(order_alarm(after, AlarmCode.OVERSOLD, f"position {position.qty} after {fill.exec_id}"))
    return tuple(found)
