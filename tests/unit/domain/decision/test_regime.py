from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from krakenbot.domain.decision.regime import Regime, RegimeMemory, RegimeSettings, RegimeView, detect_regime
from krakenbot.domain.state.symbol_state import SymbolState

MakeState = Callable[..., SymbolState]
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NORMS: dict[str, Any] = {"sigma_norm_bps": 10.0, "spread_norm_bps": 100.0}


def judge(state: SymbolState, current: Regime | None = None, age_s: float = 1000.0) -> RegimeView:
    memory = None if current is None else RegimeMemory(regime=current, since=AT - timedelta(seconds=age_s))
    return detect_regime(state, memory, AT, RegimeSettings())


@pytest.mark.parametrize(
    ("changed", "regime"),
    [
        ({}, Regime.RANGE),
        ({"invalid_s": 5.0}, Regime.RANGE),
        ({"invalid_s": 3.0, "crossed_s": 2.1}, Regime.CHAOS),
        ({"bid": None}, Regime.CHAOS),
        ({"jumps": 1}, Regime.CHAOS),
        ({"jumps": None}, Regime.RANGE),
        ({"sigma_bps_sqrt_min": 41.0, "spread_p50_bps": 401.0}, Regime.CHAOS),
        ({"sigma_bps_sqrt_min": 41.0, "spread_p50_bps": 399.0}, Regime.HIGH_VOLATILITY),
        ({"sigma_bps_sqrt_min": 8.0, "spread_p50_bps": 900.0}, Regime.RANGE),
        ({"bid_depth_50_quote": 999.0}, Regime.LOW_LIQUIDITY),
        ({"ask_depth_50_quote": None}, Regime.LOW_LIQUIDITY),
        ({"trades_per_min": 0.9}, Regime.LOW_LIQUIDITY),
        ({"sigma_bps_sqrt_min": 25.0}, Regime.RANGE),
        ({"sigma_bps_sqrt_min": 25.1}, Regime.HIGH_VOLATILITY),
        ({"drift_t": 3.0}, Regime.RANGE),
        ({"drift_t": 3.1}, Regime.TREND_UP),
        ({"drift_t": -3.1}, Regime.TREND_DOWN),
        ({"drift_t": None}, Regime.RANGE),
        ({"drift_t": 9.0, "sigma_bps_sqrt_min": 30.0}, Regime.HIGH_VOLATILITY),
        ({"jumps": 1, "trades_per_min": 0.0}, Regime.CHAOS),
    ],
)
def test_rules_are_tried_in_order(changed: dict[str, Any], regime: Regime, make_state: MakeState) -> None:
    view = judge(evolve(make_state(), **{**NORMS, **changed}))

    assert view.regime is regime
    assert 0.0 <= view.confidence <= 1.0


@pytest.mark.parametrize(
    ("changed", "current", "regime"),
    [
        ({"sigma_bps_sqrt_min": 20.1}, Regime.HIGH_VOLATILITY, Regime.HIGH_VOLATILITY),
        ({"sigma_bps_sqrt_min": 19.9}, Regime.HIGH_VOLATILITY, Regime.RANGE),
        ({"drift_t": 2.1}, Regime.TREND_UP, Regime.TREND_UP),
        ({"drift_t": 1.9}, Regime.TREND_UP, Regime.RANGE),
        ({"drift_t": -2.1}, Regime.TREND_UP, Regime.RANGE),
        ({"drift_t": -2.1}, Regime.TREND_DOWN, Regime.TREND_DOWN),
    ],
)
def test_leaving_needs_less_than_entering(
    changed: dict[str, Any], current: Regime, regime: Regime, make_state: MakeState
) -> None:
    assert judge(evolve(make_state(), **{**NORMS, **changed}), current).regime is regime


def test_dwell_holds_the_regime_for_120_s(make_state: MakeState) -> None:
    trending = evolve(make_state(), drift_t=5.0)
    held = judge(trending, Regime.RANGE, age_s=119.0)
    free = judge(trending, Regime.RANGE, age_s=120.0)

    assert (held.regime, held.candidate) == (Regime.RANGE, Regime.TREND_UP)
    assert held.confidence < free.confidence
    assert free.regime is Regime.TREND_UP
    assert free.memory == RegimeMemory(regime=Regime.TREND_UP, since=AT)


def test_chaos_is_entered_at_once_and_left_after_the_dwell(make_state: MakeState) -> None:
    into = judge(evolve(make_state(), jumps=1), Regime.RANGE, age_s=0.0)

    assert into.regime is Regime.CHAOS
    assert judge(make_state(), Regime.CHAOS, age_s=60.0).regime is Regime.CHAOS
    assert judge(make_state(), Regime.CHAOS, age_s=120.0).regime is Regime.RANGE


def test_same_regime_keeps_its_start(make_state: MakeState) -> None:
    assert judge(make_state(), Regime.RANGE, age_s=500.0).memory.since == AT - timedelta(seconds=500)


def test_without_norms_absolute_limits_judge_with_less_confidence(make_state: MakeState) -> None:
    with_norm = judge(evolve(make_state(), sigma_norm_bps=24.0, spread_norm_bps=400.0))
    without = judge(make_state())

    assert without.regime is with_norm.regime is Regime.RANGE
    assert without.confidence < with_norm.confidence
    assert judge(evolve(make_state(), sigma_bps_sqrt_min=60.1)).regime is Regime.HIGH_VOLATILITY
    assert judge(evolve(make_state(), sigma_bps_sqrt_min=201.0, spread_p50_bps=1501.0)).regime is Regime.CHAOS
