"""Sample rows: what ingest keeps of books, queues, trades and tickers.

Enters: books and counters of one symbol. Leaves: rows for the sample sink. Called by the ingest engine.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import define

from krakenbot.domain.values import Side, Symbol


@define(kw_only=True, slots=True)
class TickerSample:
    """One ticker update as stored; `at_ns` is the venue's time, `received_at_ns` ours."""

    symbol: Symbol
    at_ns: int
    received_at_ns: int
    bid: float
    ask: float
    last: float
    volume_24h: float


@define(kw_only=True, slots=True)
class TradeSample:
    """One public trade as stored."""

    symbol: Symbol
    trade_id: int
    side: Side
    price: Decimal
    qty: Decimal
    at_ns: int
    received_at_ns: int


@define(kw_only=True, slots=True)
class BookSample:
    """State of one L2 book at a sampling instant (table l2_snap_metrics).

    Depths are in quote units within x bps of the same side's best price. `ofi` is the order-flow imbalance
    (Cont, Kukanov, Stoikov 2014) in base units since the last sample; `updates` counts book messages since then.
    `crossed_s` and `invalid_s` are seconds since the last sample in which the book was crossed or not usable.
    """

    symbol: Symbol
    at_ns: int
    bid: float
    ask: float
    bid_qty: float
    ask_qty: float
    mid: float
    spread_bps: float
    microprice_dev_bps: float
    imbalance_5: float
    bid_depth_10_quote: float
    bid_depth_25_quote: float
    bid_depth_50_quote: float
    ask_depth_10_quote: float
    ask_depth_25_quote: float
    ask_depth_50_quote: float
    ofi: float
    updates: int
    crossed_s: float
    invalid_s: float


@define(kw_only=True, slots=True)
class QueueSample:
    """State of both touch queues of one L3 book at a sampling instant (table l3_queue_metrics).

    Volumes in base units, notionals in quote units; `*_added` and `*_removed` count volume that came to or left
    the touch since the last sample (removed by trade or cancel: trades tell them apart).
    """

    symbol: Symbol
    at_ns: int
    bid_volume: float
    bid_orders: int
    bid_notional: float
    ask_volume: float
    ask_orders: int
    ask_notional: float
    bid_added: float
    bid_removed: float
    ask_added: float
    ask_removed: float
    bid_mean_age_s: float
    ask_mean_age_s: float
    bid_largest_share: float
    ask_largest_share: float


Sample = TickerSample | TradeSample | BookSample | QueueSample
