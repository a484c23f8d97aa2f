"""Say how large a market is: spread, depth, trade, movement. No limits: what a profile offers is chosen.

In: a tape. Out: one `Figures` per symbol, for the report and for tests of what a rehearsal needs.
"""

from __future__ import annotations

import math
import statistics

from attrs import frozen

from krakenbot.adapters.local_exchange.flow_check.series import returns_bps
from krakenbot.adapters.local_exchange.flow_check.tape import STILL_OPEN, SymbolTape


@frozen(kw_only=True)
class Figures:
    """One symbol. `depth_25_p5_usd` is the smaller side within 25 bps of its own best price, 5th percentile."""

    spread_p50_bps: float
    touch_p50_usd: float
    depth_25_p5_usd: float
    market_orders_per_s: float
    sold_usd_per_s: float
    sigma_bps_sqrt_min: float
    book_events_per_s: float


def measure_figures(tape: SymbolTape) -> Figures:
    """Return the figures of one tape."""
    seconds, mids, takers = tape.duration_s, tape.mids_at(1.0), tape.takers
    usd_per_lot = statistics.fmean(mids) * tape.usd_per_lot_tick
    sold = sum(size for size, sign in zip(takers.size_lots, takers.sign, strict=True) if sign < 0)
    ended = sum(kind != STILL_OPEN for kind in tape.ends.kind)
    fives = returns_bps(mids, 5, overlapping=True)
    return Figures(
        spread_p50_bps=statistics.median(tape.spreads_at(1.0)),
        touch_p50_usd=statistics.median(tape.depth.touch_lots) * usd_per_lot,
        depth_25_p5_usd=sorted(tape.depth.near_lots)[len(tape.depth.near_lots) // 20] * usd_per_lot,
        market_orders_per_s=len(takers.at_s) / seconds,
        sold_usd_per_s=sold * usd_per_lot / seconds,
        sigma_bps_sqrt_min=math.sqrt(12 * statistics.fmean(value * value for value in fives)),
        book_events_per_s=(len(tape.adds.at_s) + ended) / seconds,
    )
