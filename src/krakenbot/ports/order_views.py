"""Orders, positions and fills to look at: reads only, for people; nothing is decided from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from attrs import frozen

from krakenbot.domain.execution.change import OrderEventRow
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order, OrderState
from krakenbot.domain.execution.position import Position, Protection
from krakenbot.domain.execution.round_trips import LedgerFill
from krakenbot.domain.values import ClOrdId, ExecId, Symbol, VenueId


@frozen(kw_only=True)
class OrderFilter:
    """Which orders are wanted; None and empty mean all. `limit` counts the newest."""

    symbol: Symbol | None = None
    states: frozenset[OrderState] = frozenset()
    since: datetime | None = None
    limit: int = 50


@frozen(kw_only=True)
class OrderView:
    """An order's row with what its decision was bound to; the ids are None for exits."""

    order: Order
    lineage_id: int | None
    epoch_id: int | None
    generation_id: int | None
    lease_epoch: int


@frozen(kw_only=True)
class OrderRecord:
    """Everything that is known of one order; `related` are its entry and what protects or closes it."""

    view: OrderView
    related: tuple[OrderView, ...]
    events: tuple[OrderEventRow, ...]
    fills: tuple[Fill, ...]
    markouts_bps: Mapping[ExecId, Mapping[float, float]]


@frozen(kw_only=True)
class PositionView:
    """A position with what is needed to judge it.

    `changes` are its changes of protection, oldest first; one before the opening may be the first. `bid` is the last
    that the database knows, at `bid_at`; minimums are None when the instrument is not known. `watched_until` is when
    execution was last heard of, None when never.
    """

    venue_id: VenueId
    position: Position
    changes: tuple[tuple[datetime, Protection, Decimal], ...]
    bid: Decimal | None
    bid_at: datetime | None
    qty_min: Decimal | None
    cost_min: Decimal | None
    watched_until: datetime | None


@frozen(kw_only=True)
class TradeRows:
    """Fills for round trips, oldest first, with markouts and minimums; `is_cut` when older ones were left out."""

    fills: tuple[LedgerFill, ...]
    markouts_bps: Mapping[ExecId, Mapping[float, float]]
    qty_min: Mapping[Symbol, Decimal]
    is_cut: bool


class OrderViews(Protocol):
    """Views of the decision database. Raises StoreUnavailable, and ConfigError for what the login may not read."""

    async def now(self) -> datetime:
        """Return the database's time."""

    async def symbols(self) -> Sequence[Symbol]:
        """Return every symbol that is listed or was ever traded."""

    async def orders(self, wanted: OrderFilter) -> Sequence[OrderView]:
        """Return orders, newest first."""

    async def record(self, cl_ord_id: ClOrdId) -> OrderRecord | None:
        """Return all that is known of an order; None when there is none."""

    async def recent_ids(self, limit: int) -> Sequence[ClOrdId]:
        """Return ids of the newest orders."""

    async def positions(self, symbol: Symbol | None) -> Sequence[PositionView]:
        """Return positions with a quantity, by symbol."""

    async def trades(self, symbol: Symbol | None) -> TradeRows:
        """Return the fills of one symbol or of all."""
