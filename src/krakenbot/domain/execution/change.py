"""What one report or one command changes: the rows that are committed together.

Enters: nothing; these are values. Leaves: the tracker makes them, the order store commits them.
"""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.position import Position, ProtectionEvent
from krakenbot.domain.values import ClOrdId, JournalId


@frozen(kw_only=True)
class OrderEventRow:
    """One row of the append-only order log."""

    cl_ord_id: ClOrdId
    at: datetime
    event: str
    from_state: str
    to_state: str
    detail: dict[str, object]


@frozen(kw_only=True)
class OrderChange:
    """All that one report (or one command) changes; committed whole or not at all.

    `orders` are rows as they are after the change. `fills` are new ones; a fill whose exec_id is already in the
    ledger makes the whole change a StoreConflict on "fills_pkey". `reconciled_at` moves the venue's cursor: all that
    the venue showed up to that time is in this change or in one committed before it; None leaves it where it is.
    `inserts` are new rows of exits. `journal_ids` name records of the local journal that the change replays; one that
    is known already makes the whole change a StoreConflict on "order_journal_pkey".
    """

    orders: tuple[Order, ...] = ()
    events: tuple[OrderEventRow, ...] = ()
    fills: tuple[Fill, ...] = ()
    positions: tuple[Position, ...] = ()
    protection: tuple[ProtectionEvent, ...] = ()
    reconciled_at: datetime | None = None
    inserts: tuple[Order, ...] = ()
    journal_ids: tuple[JournalId, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to commit."""
        rows = self.orders or self.events or self.fills or self.positions or self.protection
        return not (rows or self.inserts or self.journal_ids) and self.reconciled_at is None
