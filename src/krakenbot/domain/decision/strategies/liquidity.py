"""Liquidity: earn the spread as maker on both sides. Called through the registration."""

from __future__ import annotations

from attrs import frozen

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.plan import ExitProfile
from krakenbot.domain.decision.regime import Regime
from krakenbot.domain.decision.strategy import (
    Proposal,
    StrategyView,
    size_factor_of,
    stop_distance_bps,
    stop_trigger_of,
)


@frozen
class Liquidity:
    """Buy at the bid where the median spread pays both maker fees, the adverse move and 5 bps."""

    name: str = "liquidity"
    regimes: frozenset[Regime] = frozenset({Regime.RANGE, Regime.HIGH_VOLATILITY})

    def propose(self, view: StrategyView) -> Proposal | Blocker:
        """Return a proposal to leave at the other side of the spread, or HURDLE with its numbers."""
        settings = view.settings
        spread_bps = view.state.spread_p50_bps or 0.0
        limit_bps = 2 * float(view.fees.maker_bps) + view.adverse_bps + settings.liquidity_margin_bps
        if spread_bps < limit_bps:
            return Blocker(
                code=BlockerCode.HURDLE,
                detail="liquidity: median spread under two maker fees, the adverse move and the margin",
                clears_when="the spread widens or fees fall",
                value=spread_bps,
                limit=limit_bps,
                unit="bps",
            )
        return Proposal(
            strategy=self.name,
            horizon_s=settings.liquidity_horizon_s,
            ttl_s=settings.liquidity_ttl_s,
            exit_profile=ExitProfile(
                stop_distance_bps=stop_distance_bps(view.state, settings.liquidity_horizon_s),
                take_profit_bps=spread_bps,
                trail_distance_bps=None,
                time_stop_s=2 * settings.liquidity_horizon_s,
                stop_trigger=stop_trigger_of(view.instrument),
            ),
            may_improve=True,
            size_factor=size_factor_of(view.regime.regime),
            max_state_age_s=settings.liquidity_max_state_age_s,
            hurdle_value_bps=spread_bps,
            hurdle_limit_bps=limit_bps,
        )
