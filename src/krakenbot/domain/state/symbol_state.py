"""The state of one symbol in one generation: all that an entry decision may read of the market."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from krakenbot.domain.values import GenerationId, LineageId, RunId, Symbol


@frozen(kw_only=True)
class SymbolState:
    """One row of run_symbol_state.

    Windows: *short* (60 s), *medium* (300 s), *long* (1800 s) by default, each up to one bucket longer. Prices and
    `_quote` volumes in quote units, `_base` in base units, `_bps` in basis points, `_per_s` per second. None means not
    known, never zero.
    """

    lineage_id: LineageId
    run_id: RunId
    symbol: Symbol
    generation_id: GenerationId
    computed_at: datetime

    # touch, from the newest valid book sample; quantiles over the medium window
    bid: float | None = None
    ask: float | None = None
    mid: float | None = None
    spread_bps: float | None = None
    spread_p50_bps: float | None = None
    spread_p90_bps: float | None = None
    microprice_dev_bps: float | None = None
    imbalance_5: float | None = None
    bid_depth_10_quote: float | None = None
    bid_depth_25_quote: float | None = None
    bid_depth_50_quote: float | None = None
    ask_depth_10_quote: float | None = None
    ask_depth_25_quote: float | None = None
    ask_depth_50_quote: float | None = None

    # movement over the medium window
    sigma_bps_sqrt_min: float | None = None
    bipower_sigma_bps_sqrt_min: float | None = None
    drift_bps_per_min: float | None = None
    drift_t: float | None = None
    jumps: int | None = None
    return_long_bps: float | None = None

    # flow over the medium window (ofi: short window); volumes in quote units, `_base` in base units
    trades_per_min: float | None = None
    buy_volume_quote: float | None = None
    sell_volume_quote: float | None = None
    ofi_base: float | None = None
    ofi_z: float | None = None
    trade_size_mean_quote: float | None = None
    trade_size_m2_quote: float | None = None
    sell_to_bid_per_s_quote: float | None = None
    buy_to_ask_per_s_quote: float | None = None

    # queue (L3) at the newest sample; rates over the short window; quote units
    bid_queue_base: float | None = None
    ask_queue_base: float | None = None
    bid_queue_quote: float | None = None
    bid_queue_orders: int | None = None
    ask_queue_quote: float | None = None
    ask_queue_orders: int | None = None
    bid_add_per_s_quote: float | None = None
    bid_cancel_per_s_quote: float | None = None
    ask_add_per_s_quote: float | None = None
    ask_cancel_per_s_quote: float | None = None
    bid_mean_age_s: float | None = None
    ask_mean_age_s: float | None = None
    bid_largest_share: float | None = None
    ask_largest_share: float | None = None

    # markout: mean mid move in bps after trades at the touch, signed for a maker filled there (loss < 0); of those
    # that came due in the long window. The counts are of the 5 s ones.
    bid_markout_5s_bps: float | None = None
    bid_markout_30s_bps: float | None = None
    bid_markout_300s_bps: float | None = None
    bid_markout_1800s_bps: float | None = None
    ask_markout_5s_bps: float | None = None
    ask_markout_30s_bps: float | None = None
    ask_markout_300s_bps: float | None = None
    ask_markout_1800s_bps: float | None = None
    bid_markout_count: int = 0
    ask_markout_count: int = 0

    # norms over 24 h: median and MAD of minute values
    sigma_norm_bps: float | None = None
    sigma_mad_bps: float | None = None
    spread_norm_bps: float | None = None
    spread_mad_bps: float | None = None
    norm_minutes: int = 0

    # quality over the medium window; `gap_s` seconds without a usable book row, `trade_gaps` holes not refilled
    l2_samples: int = 0
    l3_samples: int = 0
    trades: int = 0
    l2_age_s: float | None = None
    l3_age_s: float | None = None
    ticker_age_s: float | None = None
    trade_age_s: float | None = None
    crossed_s: float = 0.0
    invalid_s: float = 0.0
    gap_s: float = 0.0
    trade_gaps: int = 0
    volume_24h_quote: float | None = None
    feature_complete: bool = False
