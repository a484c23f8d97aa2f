"""What one input did to the tracker: rows to commit, alarms, and own orders that have no row.

Made by the tracker; read by the engine's recorder, which commits the change and tells the alarms.
"""

from __future__ import annotations

import enum

from attrs import frozen

from krakenbot.domain.execution.change import OrderChange
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

    `is_incomplete` says that the venue knows of fills that we have not seen: ask it.
    """

    change: OrderChange = NO_CHANGE
    alarms: tuple[Alarm, ...] = ()
    strangers: tuple[ExecutionReport, ...] = ()
    is_incomplete: bool = False


def merged(first: Applied, second: Applied) -> Applied:
    """Join two results into one change; of an order or a position the later row is kept."""
    orders = {order.cl_ord_id: order for order in (*first.change.orders, *second.change.orders)}
    positions = {p.symbol: p for p in (*first.change.positions, *second.change.positions)}
    return Applied(
        change=OrderChange(
            orders=tuple(orders.values()),
            events=first.change.events + second.change.events,
            fills=first.change.fills + second.change.fills,
            positions=tuple(positions.values()),
            protection=first.change.protection + second.change.protection,
        ),
        alarms=first.alarms + second.alarms,
        strangers=first.strangers + second.strangers,
        is_incomplete=first.is_incomplete or second.is_incomplete,
    )
