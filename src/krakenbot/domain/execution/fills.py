"""The ledger's fills: each counted once, by exec_id."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.values import Asset, ClOrdId, ExecId, Side, Symbol, VenueId, VenueOrderId


@frozen(kw_only=True)
class Fill:
    """One fill of an own order. `fee_qty` is in `fee_asset`; `cost` in the quote asset, as the venue stated it."""

    exec_id: ExecId
    cl_ord_id: ClOrdId
    venue_order_id: VenueOrderId
    venue_id: VenueId
    symbol: Symbol
    side: Side
    price: Decimal
    qty: Decimal
    cost: Decimal
    fee_asset: Asset
    fee_qty: Decimal
    is_maker: bool
    at: datetime
    recorded_at: datetime
    source: str
