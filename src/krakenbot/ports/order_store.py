"""Orders, fills, positions: one transaction per report, row before order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from attrs import frozen

from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.position import Position, ProtectionEvent
from krakenbot.domain.values import (
    ClOrdId,
    EpochId,
    ExecId,
    GenerationId,
    LeaseEpoch,
    LineageId,
    Symbol,
    VenueId,
)


@frozen(kw_only=True)
class EntryGate:
    """What the transaction that inserts an entry row checks again; any difference raises Refused.

    The generation must be the one in the database's answer to the cycle's own request, no older than
    `max_generation_age_s` at `at`; the epoch must still be the newest usable one's lineage and not older than
    `max_epoch_age_s`; the lease must be ours and not expired.
    """

    lineage_id: LineageId
    epoch_id: EpochId
    generation_id: GenerationId
    lease_epoch: LeaseEpoch
    max_generation_age_s: float
    max_epoch_age_s: float
    at: datetime


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
    ledger makes the whole change a StoreConflict on "fills_pkey".
    """

    orders: tuple[Order, ...] = ()
    events: tuple[OrderEventRow, ...] = ()
    fills: tuple[Fill, ...] = ()
    positions: tuple[Position, ...] = ()
    protection: tuple[ProtectionEvent, ...] = ()


@frozen(kw_only=True)
class LiveBook:
    """What start-up loads: orders that are not terminal, open positions and the exec_ids already booked."""

    orders: tuple[Order, ...]
    positions: tuple[Position, ...]
    exec_ids: frozenset[ExecId]
    last_fill_at: datetime | None


class OrderStore(Protocol):
    """The decision database's orders. Raises StoreUnavailable when it is away, StoreConflict by constraint."""

    async def insert_entry(self, order: Order, protective: Order, gate: EntryGate) -> None:
        """Insert an entry row and its protective intent in one fenced transaction.

        Raises Refused with a blocker code when the gate says no, LeaseLost when the lease is not ours.
        """

    async def insert_exit(self, order: Order, lease_epoch: LeaseEpoch) -> None:
        """Insert the row of a protective or profit exit; checks the lease only."""

    async def apply(self, change: OrderChange) -> None:
        """Commit one change."""

    async def load_live(self, venue_id: VenueId) -> LiveBook:
        """Load what is alive at this venue."""

    async def find_order(self, cl_ord_id: ClOrdId) -> Order | None:
        """Return a row, terminal or not; None when there is none."""

    async def entry_notional_since(self, since: datetime) -> tuple[int, Decimal]:
        """Return how many entries were inserted since a time, and their notional in quote units."""

    async def realized_since(self, since: datetime) -> Decimal:
        """Return realised profit and loss in quote units since a time."""

    async def record_account(
        self, at: datetime, balances: dict[str, Decimal], equity_quote: Decimal, venue_id: VenueId
    ) -> None:
        """Append an account snapshot and an equity sample."""

    async def record_markout(
        self, exec_id: ExecId, horizon_s: float, markout_bps: float, at: datetime, venue_id: VenueId
    ) -> None:
        """Append one markout of an own fill; a repeated one is ignored."""

    async def fills_between(self, start: datetime, end: datetime, symbol: Symbol | None) -> Sequence[Fill]:
        """Return fills in a time range, oldest first."""
