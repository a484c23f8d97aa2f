"""Slippage of a market sell: a walk down the bid's depth buckets.

Enters: a state and a notional. Leaves: the mean distance from the best bid, bps. Called by the edge and by sizing.
"""

from __future__ import annotations

from krakenbot.domain.state.symbol_state import SymbolState


def sell_slippage_bps(state: SymbolState, notional_quote: float) -> float | None:
    """Return the mean bps under the best bid at which a sell of this notional would fill.

    Depth is known within 10, 25 and 50 bps; inside a bucket it is taken as spread evenly, although more stands at
    its near end. None when a bucket is not known, or the size goes beyond 50 bps.
    """
    depths = (state.bid_depth_10_quote, state.bid_depth_25_quote, state.bid_depth_50_quote)
    edges = (10.0, 25.0, 50.0)
    left, near_bps, seen, cost = notional_quote, 0.0, 0.0, 0.0
    for depth, far_bps in zip(depths, edges, strict=True):
        if depth is None:
            return None
        held = max(0.0, depth - seen)
        taken = min(left, held)
        if taken > 0:
            reached_bps = near_bps + (far_bps - near_bps) * taken / held
            cost += taken * (near_bps + reached_bps) / 2
        left -= taken
        near_bps, seen = far_bps, max(seen, depth)
    if left > 1e-9 * notional_quote:
        return None
    return cost / notional_quote if notional_quote > 0 else 0.0
