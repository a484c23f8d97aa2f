"""Reports of orders that are not known yet, and the orders that are known to be somebody else's.

Enters: reports whose order_id no row has. Leaves: the same reports, in the order in which they came, once the order is
known. Called by the tracker. Both memories are bounded: a report that has to make room is counted and handed back, so
that the caller can ask the venue for what it said.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from datetime import datetime

from krakenbot.domain.execution.reports import ExecType, ExecutionReport
from krakenbot.domain.values import VenueOrderId


class Orphans:
    """Waiting reports, at most `waiting_max`, and foreign order_ids, at most `foreign_max`; the oldest go first."""

    def __init__(self, *, waiting_max: int, foreign_max: int) -> None:
        self._waiting: deque[ExecutionReport] = deque()
        self._foreign: OrderedDict[VenueOrderId, None] = OrderedDict()
        self._waiting_max = waiting_max
        self._foreign_max = foreign_max
        self.foreign_reports = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many reports wait."""
        return len(self._waiting)

    def keep(self, report: ExecutionReport) -> ExecutionReport | None:
        """Keep a report, unless it is foreign or waits already; return the one that had to go for it."""
        # A first row is complete; without a cl_ord_id it is not ours, and neither are the deltas after it. A trade
        # row may name its symbol and lack our id, so it waits.
        is_foreign_first = (
            report.cl_ord_id is None and report.symbol is not None and report.exec_type is not ExecType.TRADE
        )
        if report.order_id in self._foreign or is_foreign_first:
            self.count_foreign(report.order_id)
            return None
        if report in self._waiting:
            return None
        self._waiting.append(report)
        if len(self._waiting) <= self._waiting_max:
            return None
        self.dropped += 1
        return self._waiting.popleft()

    def count_foreign(self, order_id: VenueOrderId) -> None:
        """Count a report of somebody else's order and remember whose it is."""
        self.foreign_reports += 1
        self._remember_foreign(order_id)

    def take(self, is_wanted: Callable[[ExecutionReport], bool]) -> list[ExecutionReport]:
        """Return and forget the reports that are wanted, in the order in which they came."""
        wanted = [report for report in self._waiting if is_wanted(report)]
        if wanted:
            self._waiting = deque(report for report in self._waiting if report not in wanted)
        return wanted

    def settle(self, foreign: Collection[VenueOrderId], before: datetime) -> None:
        """Forget what a ladder has answered: reports of foreign orders, and those older than what it looked at."""
        for order_id in sorted({report.order_id for report in self._waiting} & set(foreign)):
            self._remember_foreign(order_id)
        self._waiting = deque(report for report in self._waiting if report.at >= before)

    def _remember_foreign(self, order_id: VenueOrderId) -> None:
        self._foreign[order_id] = None
        if len(self._foreign) > self._foreign_max:
            self._foreign.popitem(last=False)
        self._waiting = deque(report for report in self._waiting if report.order_id != order_id)
