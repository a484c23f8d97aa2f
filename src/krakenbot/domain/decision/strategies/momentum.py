"""Momentum: join an upward move that is not spent. Called through the registration."""

from __future__ import annotations

import math

from attrs import frozen

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.plan import ExitProfile
from krakenbot.domain.decision.regime import Regime
from krakenbot.domain.decision.strategy import (
    Proposal,
    StrategyView,
    move_horizon_s,
    move_limit_bps,
    stop_distance_bps,
    stop_trigger_of,
)


@frozen
class Momentum:
    """Buy in TREND up when the usual move over some horizon pays the fees 1.5 times.

    Not spent: the return of the long window is at most 2 sigmas of its 30 minutes. The signal adds nothing to M
    until it has earned it out of sample.
    """

    name: str = "momentum"
    regimes: frozenset[Regime] = frozenset({Regime.TREND_UP})

    def propose(self, view: StrategyView) -> Proposal | Blocker:
        """Return a proposal with the shortest horizon that meets the hurdle, or HURDLE with its numbers."""
        settings = view.settings
        horizon_s, move_bps = move_horizon_s(view, settings.momentum_horizon_max_s)
        limit_bps = move_limit_bps(view)
        if move_bps < limit_bps * (1 - 1e-9):
            return _missed("momentum: usual move under the fees", move_bps, limit_bps, "volatility rises")
        spent_bps = view.state.return_long_bps
        spent_limit_bps = settings.momentum_max_spent_sigmas * (view.state.sigma_bps_sqrt_min or 0.0) * math.sqrt(30.0)
        if spent_bps is None or spent_bps > spent_limit_bps:
            return _missed("momentum: the move is spent or not known", spent_bps, spent_limit_bps, "the move cools")
        stop_bps = stop_distance_bps(view.state, horizon_s)
        return Proposal(
            strategy=self.name,
            horizon_s=horizon_s,
            ttl_s=settings.move_ttl_s,
            exit_profile=ExitProfile(
                stop_distance_bps=stop_bps,
                take_profit_bps=move_bps,
                trail_distance_bps=stop_bps,
                time_stop_s=horizon_s,
                stop_trigger=stop_trigger_of(view.instrument),
            ),
            may_improve=True,
            size_factor=1.0,
            max_state_age_s=settings.move_max_state_age_s,
            hurdle_value_bps=move_bps,
            hurdle_limit_bps=limit_bps,
        )


def _missed(detail: str, value: float | None, limit: float, clears_when: str) -> Blocker:
    return Blocker(
        code=BlockerCode.HURDLE, detail=detail, clears_when=clears_when, value=value, limit=limit, unit="bps"
    )
