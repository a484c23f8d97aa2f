"""The venue's words for what happened to an order, as events of the order table.

Enters: a report of the stream, or the status of a query's row. Leaves: an event, None for words that say nothing of
the state. Called by the tracker.
"""

from __future__ import annotations

from typing import Final

from krakenbot.domain.execution.order import OrderEvent
from krakenbot.domain.execution.reports import ExecType, ExecutionReport

CLOSING: Final = frozenset({OrderEvent.FILLED, OrderEvent.CANCELED, OrderEvent.EXPIRED})
"""Events by which the venue closes an order."""

_BY_EXEC_TYPE: Final = {
    ExecType.PENDING_NEW: OrderEvent.REPORT_PENDING_NEW,
    ExecType.NEW: OrderEvent.REPORT_NEW,
    ExecType.AMENDED: OrderEvent.AMENDED,
    ExecType.RESTATED: OrderEvent.AMENDED,
    ExecType.FILLED: OrderEvent.FILLED,
    ExecType.CANCELED: OrderEvent.CANCELED,
    ExecType.EXPIRED: OrderEvent.EXPIRED,
}
_BY_STATUS: Final = {
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


def event_of_report(report: ExecutionReport) -> OrderEvent | None:
    """Return what a report that is no trade says; `status` and refill rows speak by their order_status."""
    return _BY_EXEC_TYPE.get(report.exec_type) or _BY_STATUS.get(report.order_status or "")


def event_of_status(status: str) -> OrderEvent | None:
    """Return what the status of a query's row says."""
    return _BY_STATUS.get(status)
