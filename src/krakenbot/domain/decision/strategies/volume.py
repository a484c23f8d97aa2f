"""Volume: follow signed flow together with a surge of buyers. Called through the registration."""

from __future__ import annotations

from attrs import frozen

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.plan import ExitProfile
from krakenbot.domain.decision.regime import Regime
from krakenbot.domain.decision.strategy import (
    Proposal,
    StrategyView,
    move_horizon_s,
    move_limit_bps,
    size_factor_of,
    stop_distance_bps,
    stop_trigger_of,
)


@frozen
class Volume:
    """Buy when order flow and takers lean up and the usual move pays the fees 1.5 times.

    The surge is read as the buyers' share of traded volume; a norm of volume is not kept yet.
    """

    name: str = "volume"
    regimes: frozenset[Regime] = frozenset({Regime.RANGE, Regime.TREND_UP, Regime.HIGH_VOLATILITY})

    def propose(self, view: StrategyView) -> Proposal | Blocker:
        """Return a proposal with the shortest horizon that meets the hurdle, or HURDLE with its numbers."""
        settings, state = view.settings, view.state
        if state.ofi_z is None or state.ofi_z < settings.volume_min_ofi_z:
            return _missed("volume: order flow does not lean up", state.ofi_z, settings.volume_min_ofi_z, "z")
        bought, sold = state.buy_volume_quote or 0.0, state.sell_volume_quote or 0.0
        buy_share = bought / (bought + sold) if bought + sold > 0 else 0.0
        if buy_share < settings.volume_min_buy_share:
            return _missed("volume: no surge of buyers", buy_share, settings.volume_min_buy_share, "share")
        horizon_s, move_bps = move_horizon_s(view, settings.volume_horizon_max_s)
        limit_bps = move_limit_bps(view)
        if move_bps < limit_bps * (1 - 1e-9):
            return _missed("volume: usual move under the fees", move_bps, limit_bps, "bps")
        stop_bps = stop_distance_bps(state, horizon_s)
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
            size_factor=size_factor_of(view.regime.regime),
            max_state_age_s=settings.move_max_state_age_s,
            hurdle_value_bps=move_bps,
            hurdle_limit_bps=limit_bps,
        )


def _missed(detail: str, value: float | None, limit: float, unit: str) -> Blocker:
    return Blocker(
        code=BlockerCode.HURDLE, detail=detail, clears_when="it reaches the limit", value=value, limit=limit, unit=unit
    )
