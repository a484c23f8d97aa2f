"""The regime of one symbol: ordered rules with hysteresis and a dwell.

Enters: a complete state, the regime remembered from the last cycle. Leaves: the regime, how sure, and the measures
that decided. Called by the pipeline.
"""

from __future__ import annotations

import enum
from datetime import datetime

from attrs import field, frozen
from attrs.validators import ge, gt

from krakenbot.domain.state.symbol_state import SymbolState


class Regime(enum.StrEnum):
    """What kind of market this is, in the order in which the rules are tried."""

    CHAOS = "chaos"
    LOW_LIQUIDITY = "low_liquidity"
    HIGH_VOLATILITY = "high_volatility"
    TREND_UP = "trend_up"
    TREND_DOWN = "trend_down"
    RANGE = "range"


@frozen(kw_only=True)
class RegimeSettings:
    """Limits of the rules.

    Multiples are of the symbol's own 24 h norm. While the norm is not known (new symbol, first hour) the absolute
    limits stand in; these are written guesses for altcoins.
    """

    chaos_norm_multiple: float = field(default=4.0, validator=gt(1.0))
    chaos_sigma_bps_sqrt_min: float = field(default=200.0, validator=gt(0.0))
    chaos_spread_bps: float = field(default=1500.0, validator=gt(0.0))
    chaos_invalid_s: float = field(default=5.0, validator=ge(0.0))
    min_depth_50_quote: float = field(default=1000.0, validator=ge(0.0))
    min_trades_per_min: float = field(default=1.0, validator=ge(0.0))
    volatile_enter_multiple: float = field(default=2.5, validator=gt(1.0))
    volatile_leave_multiple: float = field(default=2.0, validator=gt(1.0))
    volatile_enter_bps_sqrt_min: float = field(default=60.0, validator=gt(0.0))
    volatile_leave_bps_sqrt_min: float = field(default=48.0, validator=gt(0.0))
    trend_enter_t: float = field(default=3.0, validator=gt(0.0))
    trend_leave_t: float = field(default=2.0, validator=gt(0.0))
    dwell_s: float = field(default=120.0, validator=ge(0.0))
    confidence_without_norm: float = field(default=0.6, validator=[ge(0.0)])


@frozen(kw_only=True)
class RegimeMemory:
    """The regime in force and since when."""

    regime: Regime
    since: datetime


@frozen(kw_only=True)
class RegimeView:
    """A judged regime. `confidence` is 0..1; `candidate` differs from `regime` while the dwell holds the old one."""

    regime: Regime
    confidence: float
    candidate: Regime
    measures: dict[str, float]
    memory: RegimeMemory


@frozen(kw_only=True)
class _Verdict:
    regime: Regime
    measures: dict[str, float]
    margin: float


def detect_regime(
    state: SymbolState, memory: RegimeMemory | None, at: datetime, settings: RegimeSettings
) -> RegimeView:
    """Judge a complete state.

    A new regime is taken once the one in force has lasted `dwell_s`; CHAOS at once, and so is the first regime.
    Confidence grows with the distance from the limits, and is lower without norms and while the dwell holds.
    """
    found = _first_hit(state, memory.regime if memory else None, settings)
    has_norm = state.sigma_norm_bps is not None and state.spread_norm_bps is not None
    confidence = found.margin * (1.0 if has_norm else settings.confidence_without_norm)
    held = (
        memory is not None
        and found.regime is not memory.regime
        and found.regime is not Regime.CHAOS
        and (at - memory.since).total_seconds() < settings.dwell_s
    )
    if memory is not None and (held or found.regime is memory.regime):
        kept = memory
    else:
        kept = RegimeMemory(regime=found.regime, since=at)
    return RegimeView(
        regime=kept.regime,
        confidence=confidence / 2 if held else confidence,
        candidate=found.regime,
        measures=found.measures,
        memory=kept,
    )


def _first_hit(state: SymbolState, current: Regime | None, settings: RegimeSettings) -> _Verdict:
    return (
        _chaos(state, settings)
        or _low_liquidity(state, settings)
        or _high_volatility(state, current, settings)
        or _trend(state, current, settings)
        or _range(state, settings)
    )


def _chaos(state: SymbolState, settings: RegimeSettings) -> _Verdict | None:
    bad_s = state.invalid_s + state.crossed_s
    jump_count = state.jumps or 0
    sigma_limit = _limit(state.sigma_norm_bps, settings.chaos_norm_multiple, settings.chaos_sigma_bps_sqrt_min)
    spread_limit = _limit(state.spread_norm_bps, settings.chaos_norm_multiple, settings.chaos_spread_bps)
    sigma, spread = state.sigma_bps_sqrt_min, state.spread_p50_bps
    if state.bid is None or state.ask is None or bad_s > settings.chaos_invalid_s:
        return _Verdict(regime=Regime.CHAOS, measures={"invalid_s": bad_s}, margin=1.0)
    if jump_count:
        return _Verdict(regime=Regime.CHAOS, measures={"jumps": float(jump_count)}, margin=1.0)
    if sigma is not None and spread is not None and sigma > sigma_limit and spread > spread_limit:
        margin = min(sigma / sigma_limit, spread / spread_limit)
        return _Verdict(
            regime=Regime.CHAOS,
            measures={"sigma_ratio": sigma / sigma_limit, "spread_ratio": spread / spread_limit},
            margin=_above(margin),
        )
    return None


def _low_liquidity(state: SymbolState, settings: RegimeSettings) -> _Verdict | None:
    # A wide spread alone is not low liquidity: it is what a maker is paid for.
    depth = min(state.bid_depth_50_quote or 0.0, state.ask_depth_50_quote or 0.0)
    rate = state.trades_per_min or 0.0
    if depth >= settings.min_depth_50_quote and rate >= settings.min_trades_per_min:
        return None
    return _Verdict(regime=Regime.LOW_LIQUIDITY, measures={"depth_50_quote": depth, "trades_per_min": rate}, margin=1.0)


def _high_volatility(state: SymbolState, current: Regime | None, settings: RegimeSettings) -> _Verdict | None:
    inside = current is Regime.HIGH_VOLATILITY
    limit = _limit(
        state.sigma_norm_bps,
        settings.volatile_leave_multiple if inside else settings.volatile_enter_multiple,
        settings.volatile_leave_bps_sqrt_min if inside else settings.volatile_enter_bps_sqrt_min,
    )
    sigma = state.sigma_bps_sqrt_min
    if sigma is None or sigma <= limit:
        return None
    return _Verdict(
        regime=Regime.HIGH_VOLATILITY, measures={"sigma_ratio": sigma / limit}, margin=_above(sigma / limit)
    )


def _trend(state: SymbolState, current: Regime | None, settings: RegimeSettings) -> _Verdict | None:
    strength = state.drift_t
    if strength is None:
        return None
    regime = Regime.TREND_UP if strength > 0 else Regime.TREND_DOWN
    limit = settings.trend_leave_t if current is regime else settings.trend_enter_t
    if abs(strength) <= limit:
        return None
    return _Verdict(regime=regime, measures={"drift_t": strength}, margin=_above(abs(strength) / limit))


def _range(state: SymbolState, settings: RegimeSettings) -> _Verdict:
    limit = _limit(state.sigma_norm_bps, settings.volatile_enter_multiple, settings.volatile_enter_bps_sqrt_min)
    sigma_ratio = (state.sigma_bps_sqrt_min or 0.0) / limit
    strength = state.drift_t
    trend_ratio = abs(strength) / settings.trend_enter_t if strength is not None else 0.5
    return _Verdict(
        regime=Regime.RANGE,
        measures={"sigma_ratio": sigma_ratio, "trend_ratio": trend_ratio},
        margin=max(0.0, 1.0 - max(sigma_ratio, trend_ratio)),
    )


def _limit(norm: float | None, multiple: float, absolute: float) -> float:
    return absolute if norm is None or norm <= 0 else multiple * norm


def _above(ratio: float) -> float:
    """Map a ratio above 1 to a confidence from 0.5 at the limit to 1 at twice the limit."""
    return min(1.0, ratio / 2)
