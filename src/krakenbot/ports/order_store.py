"""Orders, fills, positions: one transaction per report, row before order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from attrs import Factory, frozen

from krakenbot.domain.execution.change import OrderChange, OrderEventRow
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.position import Position
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

__all__ = ["EntryGate", "LiveBook", "OrderChange", "OrderEventRow", "OrderStore"]


@frozen(kw_only=True)
class EntryGate:
    """What the transaction that inserts an entry row checks again; any difference raises Refused.

    The generation must be the one in the database's answer to the cycle's own request, no older than
    `max_generation_age_s` at `at`; the epoch must still be the newest usable one's lineage and not older than
    `max_epoch_age_s`; the lease must be ours and not expired; the engine's mode must be normal and nothing latched.
    """

    lineage_id: LineageId
    epoch_id: EpochId
    generation_id: GenerationId
    lease_epoch: LeaseEpoch
    max_generation_age_s: float
    max_epoch_age_s: float
    at: datetime


@frozen(kw_only=True)
class LiveBook:
    """What start-up loads: orders that are not terminal, positions and the exec_ids already booked.

    `positions` holds every symbol's row, flat ones too: their realised sum goes on. `changed_at` says when an
    order of a symbol last changed: until some time after that the venue's trading counter is not empty. `exec_ids`
    are the newest ones only; `booked` answers for the others. `reconciled_at` is the cursor that changes move: what
    the venue had shown by then is in the ledger; None before the first.
    """

    orders: tuple[Order, ...]
    positions: tuple[Position, ...]
    exec_ids: frozenset[ExecId]
    last_fill_at: datetime | None
    reconciled_at: datetime | None = None
    changed_at: Mapping[Symbol, datetime] = Factory(dict)


class OrderStore(Protocol):
    """The decision database's orders. Raises StoreUnavailable when it is away, StoreConflict by constraint."""

    async def insert_entry(self, order: Order, protective: Order, gate: EntryGate) -> None:
        """Insert an entry row and its protective intent in one fenced transaction.

        Raises Refused with a blocker code when the gate says no, LeaseLost when the lease is not ours.
        """

    async def apply(self, change: OrderChange, lease_epoch: LeaseEpoch) -> None:
        """Commit one change; raises LeaseLost once another process has taken the lease, expired or not.

        May be called again with the same change after StoreUnavailable or a timeout: it is committed once where the
        outcome of the try before can be found, else the repetition is a StoreConflict.
        """

    async def load_live(self, venue_id: VenueId) -> LiveBook:
        """Load what is alive at this venue."""

    async def find_order(self, cl_ord_id: ClOrdId) -> Order | None:
        """Return a row, terminal or not; None when there is none and none can come.

        While the commit of an `insert_entry` that was not answered may still come, it is StoreUnavailable.
        """

    async def booked(self, exec_ids: Sequence[ExecId]) -> frozenset[ExecId]:
        """Return which of these fills the ledger of this venue holds."""

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
