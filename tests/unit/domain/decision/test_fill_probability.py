from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.domain.decision.fill_probability import (
    FillSettings,
    QueueRates,
    QueueSource,
    consumed_by,
    estimate_fill,
    level_hazards,
    queue_rates,
)
from krakenbot.domain.state.symbol_state import SymbolState

RATES = QueueRates(
    ahead_quote=1000.0,
    touch_quote=1000.0,
    size_quote=200.0,
    trades_per_s=2.0,
    trade_mean_quote=50.0,
    trade_m2_quote=4000.0,
    cancel_per_s_quote=0.0,
    sigma_bps_sqrt_min=10.0,
    sweep_bps=100.0,
)

RANDOM_RATES = st.builds(
    QueueRates,
    ahead_quote=st.floats(0, 1e6),
    touch_quote=st.floats(0, 1e6),
    size_quote=st.floats(1, 1e5),
    trades_per_s=st.floats(0, 100),
    trade_mean_quote=st.floats(0.1, 1e4),
    trade_m2_quote=st.floats(0.01, 1e9),
    cancel_per_s_quote=st.floats(0, 1e4),
    sigma_bps_sqrt_min=st.floats(0, 500),
    sweep_bps=st.floats(0.1, 500),
    undercut_per_s=st.floats(0, 10),
)


@given(RANDOM_RATES, st.floats(1, 600))
def test_exits_are_probabilities_that_sum_to_one(rates: QueueRates, horizon_s: float) -> None:
    fill = estimate_fill(rates, horizon_s, QueueSource.L3)
    exits = [fill.p_consumed, fill.p_swept, fill.p_away, fill.p_cancelled]

    assert all(-1e-12 <= exit_ <= 1 + 1e-12 for exit_ in exits)
    assert math.fsum(exits) == pytest.approx(1.0)
    assert 0.0 < fill.rest_s <= horizon_s * (1 + 1e-9)


@given(RANDOM_RATES, st.floats(1, 2000))
def test_more_volume_ahead_never_makes_consumption_likelier(rates: QueueRates, more: float) -> None:
    longer = evolve(rates, ahead_quote=rates.ahead_quote + more)
    # Cancels can at most clear what is ahead, so compare without them.
    rates, longer = evolve(rates, cancel_per_s_quote=0.0), evolve(longer, cancel_per_s_quote=0.0)

    assert consumed_by(longer, 30.0) <= consumed_by(rates, 30.0) + 1e-12


def test_martingale_mid_sweeps_as_often_as_it_leaves() -> None:
    still = evolve(RATES, trades_per_s=0.0, sigma_bps_sqrt_min=60.0)
    fill = estimate_fill(still, 120.0, QueueSource.L3)

    assert fill.p_consumed == 0.0
    assert fill.p_swept == pytest.approx(fill.p_away)
    assert fill.p_swept > 0.1


def test_martingale_sweep_earns_nothing_before_fees() -> None:
    # A step of the half-spread down through our price leaves the mid at our price: what was captured is gone.
    still = evolve(RATES, trades_per_s=0.0, sigma_bps_sqrt_min=60.0)
    captured = still.sweep_bps

    assert estimate_fill(still, 120.0, QueueSource.L3).mix(captured, captured - still.sweep_bps) == 0.0


def test_consumption_agrees_with_a_simulated_compound_poisson_queue() -> None:
    rng = random.Random(11)
    horizon_s, runs, hits = 30.0, 4000, 0
    for _ in range(runs):
        time_s, depleted = rng.expovariate(RATES.trades_per_s), 0.0
        while time_s <= horizon_s:
            # Gamma sizes with the same two moments: shape 50^2 / 1500, scale 30.
            depleted += rng.gammavariate(50.0**2 / 1500.0, 30.0)
            time_s += rng.expovariate(RATES.trades_per_s)
        hits += depleted >= RATES.ahead_quote * 2 + RATES.size_quote
    expected = consumed_by(evolve(RATES, ahead_quote=2000.0), horizon_s)

    assert hits / runs == pytest.approx(expected, abs=0.03)
    assert 0.03 < consumed_by(evolve(RATES, ahead_quote=2800.0), horizon_s) < 0.97


def test_cancels_alone_never_fill() -> None:
    fill = estimate_fill(evolve(RATES, trades_per_s=0.0, cancel_per_s_quote=1e6), 60.0, QueueSource.L3)

    assert fill.p_consumed == 0.0


def test_cancels_ahead_speed_the_queue() -> None:
    slow = evolve(RATES, ahead_quote=3000.0)

    assert consumed_by(evolve(slow, cancel_per_s_quote=50.0), 30.0) > consumed_by(slow, 30.0)


def test_mix_weighs_causes_and_never_flatters_an_impossible_fill() -> None:
    fill = estimate_fill(RATES, 60.0, QueueSource.L3)
    never = estimate_fill(evolve(RATES, trades_per_s=0.0, sigma_bps_sqrt_min=0.0), 60.0, QueueSource.L3)

    assert 0.0 < fill.mix(100.0, 0.0) < 100.0
    assert never.p_fill == 0.0
    assert never.mix(100.0, -5.0) == -5.0


def test_large_trades_raise_the_sweep_alone() -> None:
    small, large = level_hazards(RATES), level_hazards(evolve(RATES, trade_m2_quote=40_000.0))

    assert large[0] > small[0]
    assert large[1] == small[1]


def test_sources_are_typed_and_the_estimate_is_slower(make_state: Callable[..., SymbolState]) -> None:
    state = make_state()
    with_l3 = queue_rates(state, 100.0, joins=True, settings=FillSettings())
    aged = queue_rates(evolve(state, l3_age_s=5.1), 100.0, joins=True, settings=FillSettings())

    assert with_l3 is not None
    assert aged is not None
    assert with_l3[0] is QueueSource.L3
    assert aged[0] is QueueSource.L2_ESTIMATE
    assert consumed_by(aged[1], 20.0) < consumed_by(with_l3[1], 20.0)
    assert queue_rates(evolve(state, sigma_bps_sqrt_min=None), 100.0, joins=True, settings=FillSettings()) is None
