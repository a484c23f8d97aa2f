"""The protocol of a strategy, and the arithmetic that strategies share.

Enters: a complete state with its regime and fees. Leaves: a proposal how to enter, hold and leave, or the blocker
with the numbers of the hurdle that was missed. The strategies are in `strategies`, one file each.
"""

from __future__ import annotations

import math
from typing import Protocol

from attrs import field, frozen
from attrs.validators import ge, gt, le

from krakenbot.domain.decision.blocker import Blocker
from krakenbot.domain.decision.plan import ExitProfile, StopTrigger
from krakenbot.domain.decision.regime import Regime, RegimeView
from krakenbot.domain.decision.views import Fees
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.state.symbol_state import SymbolState

MIN_STOP_BPS = 65.0
STOP_SIGMAS = 2.5
STOP_SPREADS = 3.0
STOP_HORIZON_MAX_S = 1800.0
HALF_SIZE = 0.5


@frozen(kw_only=True)
class StrategySettings:
    """Hurdles, horizons and times to live; the hurdles' defaults are their least values."""

    liquidity_margin_bps: float = field(default=5.0, validator=ge(5.0))
    liquidity_horizon_s: float = field(default=300.0, validator=gt(0.0))
    liquidity_ttl_s: float = field(default=60.0, validator=[gt(0.0), le(600.0)])
    liquidity_max_state_age_s: float = field(default=45.0, validator=[gt(0.0), le(45.0)])
    move_multiple: float = field(default=1.5, validator=ge(1.5))
    move_ttl_s: float = field(default=15.0, validator=[gt(0.0), le(600.0)])
    move_max_state_age_s: float = field(default=30.0, validator=[gt(0.0), le(30.0)])
    horizon_min_s: float = field(default=600.0, validator=gt(0.0))
    momentum_horizon_max_s: float = field(default=14_400.0, validator=gt(0.0))
    volume_horizon_max_s: float = field(default=7200.0, validator=gt(0.0))
    momentum_max_spent_sigmas: float = field(default=2.0, validator=gt(0.0))
    volume_min_ofi_z: float = field(default=2.0, validator=gt(0.0))
    volume_min_buy_share: float = field(default=0.65, validator=[gt(0.5), le(1.0)])


@frozen(kw_only=True)
class StrategyView:
    """What a strategy may look at; `adverse_bps` is the expected adverse move after a fill."""

    state: SymbolState
    regime: RegimeView
    instrument: Instrument
    fees: Fees
    adverse_bps: float
    settings: StrategySettings


@frozen(kw_only=True)
class Proposal:
    """How a strategy would enter. `hurdle_value` met `hurdle_limit` (bps); `size_factor` scales the final size."""

    strategy: str
    horizon_s: float
    ttl_s: float
    exit_profile: ExitProfile
    may_improve: bool
    size_factor: float
    max_state_age_s: float
    hurdle_value_bps: float
    hurdle_limit_bps: float


class Strategy(Protocol):
    """One way to trade. Long only: it buys first."""

    @property
    def name(self) -> str:
        """Return the name that records carry."""

    @property
    def regimes(self) -> frozenset[Regime]:
        """Return the regimes in which it is asked."""

    def propose(self, view: StrategyView) -> Proposal | Blocker:
        """Return a proposal, or why not."""


def stop_distance_bps(state: SymbolState, horizon_s: float) -> float:
    """Return max(2.5 sigma sqrt(min(H, 30 min)), 3 spread_p90, 65), sigma per root minute."""
    minutes = min(horizon_s, STOP_HORIZON_MAX_S) / 60
    moved = STOP_SIGMAS * (state.sigma_bps_sqrt_min or 0.0) * math.sqrt(minutes)
    return max(moved, STOP_SPREADS * (state.spread_p90_bps or 0.0), MIN_STOP_BPS)


def stop_trigger_of(instrument: Instrument) -> StopTrigger:
    """Return index where the instrument has one, else last."""
    return StopTrigger.INDEX if instrument.has_index else StopTrigger.LAST


def size_factor_of(regime: Regime) -> float:
    """Return the share of the size that a regime allows."""
    return HALF_SIZE if regime is Regime.HIGH_VOLATILITY else 1.0


def move_limit_bps(view: StrategyView) -> float:
    """Return the move that pays a maker entry and a taker exit 1.5 times over."""
    return view.settings.move_multiple * float(view.fees.maker_bps + view.fees.taker_bps)


def move_horizon_s(view: StrategyView, longest_s: float) -> tuple[float, float]:
    """Return the shortest horizon at which sigma x sqrt(H) meets the limit, and that move; at most `longest_s`."""
    sigma = view.state.sigma_bps_sqrt_min or 0.0
    limit = move_limit_bps(view)
    needed_s = (limit / sigma) ** 2 * 60 if sigma > 0 else math.inf
    horizon_s = min(max(needed_s, view.settings.horizon_min_s), longest_s)
    return horizon_s, sigma * math.sqrt(horizon_s / 60)
