"""What the venue says about orders: reports of the executions feed, and rows of queries.

Reports are sparse: only the first row of an order is complete, so every field but `order_id` and `exec_type` may be
None. Fills come from `exec_type == trade` alone.
"""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.values import Asset, ClOrdId, ExecId, Side, Symbol, VenueOrderId


class ExecType(enum.StrEnum):
    """Kinds of an execution report, in Kraken's words; any other word is a VenueProtocolError."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    TRADE = "trade"
    FILLED = "filled"
    ICEBERG_REFILL = "iceberg_refill"
    CANCELED = "canceled"
    EXPIRED = "expired"
    AMENDED = "amended"
    RESTATED = "restated"
    STATUS = "status"


@frozen(kw_only=True)
class Fee:
    """A fee in its own asset; negative is a rebate."""

    asset: Asset
    qty: Decimal


@frozen(kw_only=True)
class ExecutionReport:
    """One row of the executions channel.

    `trigger_price` and `limit_price` are None when the venue states them as a distance. `ratecount` is the symbol's
    trading counter after this action. On trade rows `exec_id`, `last_qty`, `last_price`, `symbol` and `side` are
    always there, and quantity and price are above zero. No quantity or cost is below zero.
    """

    order_id: VenueOrderId
    exec_type: ExecType
    at: datetime
    cl_ord_id: ClOrdId | None = None
    symbol: Symbol | None = None
    side: Side | None = None
    order_type: str | None = None
    order_status: str | None = None
    order_qty: Decimal | None = None
    cum_qty: Decimal | None = None
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    triggered: bool | None = None
    post_only: bool | None = None
    reason: str | None = None
    ratecount: Decimal | None = None
    # trade rows only
    exec_id: ExecId | None = None
    trade_id: int | None = None
    last_qty: Decimal | None = None
    last_price: Decimal | None = None
    cost: Decimal | None = None
    is_maker: bool | None = None
    fees: tuple[Fee, ...] = ()


@frozen(kw_only=True)
class ExecutionBatch:
    """One frame of the executions channel, or the word that the feed lost or regained its place.

    `is_snapshot` batches hold all open orders and the newest fills. `gap` is True when reports may have been missed
    before this batch; the consumer must reconcile.
    """

    reports: tuple[ExecutionReport, ...]
    is_snapshot: bool
    gap: bool
    sequence: int | None


@frozen(kw_only=True)
class VenueOrder:
    """An order as a query of the venue shows it; prices are None where the order has none of that kind."""

    order_id: VenueOrderId
    cl_ord_id: ClOrdId | None
    symbol: Symbol
    side: Side
    status: str
    order_type: str
    qty: Decimal
    cum_qty: Decimal
    limit_price: Decimal | None
    trigger_price: Decimal | None
    reason: str | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None


@frozen(kw_only=True)
class VenueFill:
    """A fill as a query of the venue's trade history shows it."""

    exec_id: ExecId
    order_id: VenueOrderId
    symbol: Symbol
    side: Side
    price: Decimal
    qty: Decimal
    cost: Decimal
    fee: Decimal
    fee_asset: Asset
    is_maker: bool
    at: datetime


@frozen(kw_only=True)
class VenueBalance:
    """One asset's balance; `available` excludes what open orders hold."""

    asset: Asset
    balance: Decimal
    held: Decimal

    @property
    def available(self) -> Decimal:
        """Return what an order may use."""
        return self.balance - self.held
