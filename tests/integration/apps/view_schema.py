"""The shape of the views' JSON, field by field; anything else is refused. docs/orders.md describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

Amount = Annotated[str, msgspec.Meta(pattern=r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$")]


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """No field more, none less."""


class OrderRow(Strict):
    cl_ord_id: str
    venue_id: str
    venue_order_id: str | None
    parent_id: str | None
    symbol: str
    side: str
    role: str
    order_type: str
    state: str
    reason: str
    exit_kind: str | None
    qty: Amount
    cum_qty: Amount
    limit_price: Amount | None
    trigger_price: Amount | None
    trigger: str | None
    post_only: bool
    created_at: datetime
    state_at: datetime | None
    deadline_at: datetime | None
    expire_at: datetime | None
    lineage_id: int | None
    epoch_id: int | None
    generation_id: int | None
    lease_epoch: int
    record: dict[str, Any]


class Event(Strict):
    at: datetime
    event: str
    from_state: str
    to_state: str
    detail: dict[str, Any]


class FillRow(Strict):
    exec_id: str
    at: datetime
    recorded_at: datetime
    side: str
    qty: Amount
    price: Amount
    cost: Amount
    fee_asset: str
    fee_qty: Amount
    is_maker: bool
    source: str
    markouts_bps: dict[str, float]


class Orders(Strict):
    version: int
    orders: list[OrderRow]


class Record(Strict):
    version: int
    order: OrderRow
    related: list[OrderRow]
    events: list[Event]
    fills: list[FillRow]


class Seconds(Strict):
    protected_s: float
    guarded_s: float
    bare_s: float
    unprotectable_s: float
    unseen_s: float


class PositionRow(Strict):
    venue_id: str
    symbol: str
    qty: Amount
    average_entry_price: Amount | None
    cost_quote: Amount
    realized_quote: Amount
    unrealized_quote: Amount | None
    bid: Amount | None
    bid_age_s: float | None
    opened_at: datetime | None
    entry_id: str | None
    protection: str
    protected_qty: Amount
    seconds: Seconds
    is_dust: bool


class Positions(Strict):
    version: int
    positions: list[PositionRow]


class TradeRow(Strict):
    venue_id: str
    symbol: str
    is_open: bool
    opened_at: datetime
    closed_at: datetime | None
    qty_bought: Amount
    qty_sold: Amount
    entry_price: Amount | None
    exit_price: Amount | None
    fees: dict[str, Amount]
    realized_quote: Amount
    exit_kind: str | None
    entry_ids: list[str]
    exit_ids: list[str]
    markouts_bps: dict[str, float]


class Trades(Strict):
    version: int
    is_cut: bool
    trades: list[TradeRow]


class Finding(Strict):
    check: str
    level: str
    found: str
    limit: str
    fix: str


class Doctor(Strict):
    version: int
    at: datetime
    worst: str
    findings: list[Finding]
