from __future__ import annotations

import math
import random
from collections.abc import Callable
from decimal import Decimal
from statistics import fmean, stdev
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.domain.decision.edge import (
    Calibration,
    EdgeRecord,
    EdgeSettings,
    EdgeSource,
    MarkoutLabels,
    edge_of,
    expected_adverse_bps,
    score_of,
    surplus_bps,
)
from krakenbot.domain.decision.fill_probability import FillEstimate, QueueSource
from krakenbot.domain.decision.pipeline import DecisionSettings, PipelineInput, evaluate
from krakenbot.domain.decision.slippage import sell_slippage_bps
from krakenbot.domain.decision.views import Fees
from krakenbot.domain.state.symbol_state import SymbolState

MakeState = Callable[..., SymbolState]
FEES = Fees(maker_bps=Decimal(25), taker_bps=Decimal(40))
SURE = FillEstimate(
    source=QueueSource.L3, p_consumed=1.0, p_swept=0.0, p_away=0.0, p_cancelled=0.0, rest_s=10.0, ahead_quote=0.0
)


def edge(state: SymbolState, fill: FillEstimate = SURE, calibration: Calibration | None = None) -> EdgeRecord:
    record = edge_of(
        state,
        price=state.bid or 0.0,
        fill=fill,
        slippage_bps=2.0,
        fees=FEES,
        calibration=calibration or Calibration(),
        settings=EdgeSettings(),
    )
    assert record is not None
    return record


def test_surplus_by_hand() -> None:
    surplus = surplus_bps(m=180.0, p_maker_exit=0.3, half_spread_exit=200.0, slippage=2.0, maker=25.0, taker=40.0)

    assert surplus == pytest.approx(180 + 0.3 * 175 - 0.7 * 242 - 25)


def test_maker_maker_round_trip_costs_two_maker_fees_and_maker_taker_65() -> None:
    both = surplus_bps(m=0.0, p_maker_exit=1.0, half_spread_exit=0.0, slippage=0.0, maker=25.0, taker=40.0)
    crossed = surplus_bps(m=0.0, p_maker_exit=0.0, half_spread_exit=0.0, slippage=0.0, maker=25.0, taker=40.0)

    assert (both, crossed) == (-50.0, -65.0)


def test_prior_by_hand(make_state: MakeState) -> None:
    state = evolve(make_state(), bid_markout_count=0, bid_markout_5s_bps=None, bid_markout_30s_bps=None)
    record = edge(state)

    assert record.source is EdgeSource.PRIOR
    # Captured 200 of the mid, in bps of the price limited to the median half-spread; 10 % adverse, 5 % SE.
    assert record.m_consumed_bps == pytest.approx(200 - 20)
    assert record.m_swept_bps == pytest.approx(-20)
    assert record.se_bps == pytest.approx(10)


def test_public_markouts_move_the_prior_and_gains_are_not_believed(make_state: MakeState) -> None:
    state = evolve(make_state(), bid_markout_count=200)
    defaults = EdgeSettings()
    toxic = expected_adverse_bps(evolve(state, bid_markout_30s_bps=-120.0), defaults)
    gain = expected_adverse_bps(evolve(state, bid_markout_5s_bps=50.0, bid_markout_30s_bps=50.0), defaults)

    assert toxic is not None
    assert gain is not None
    # 200 trades weigh as much as the prior's 50 labels.
    assert toxic[0] == pytest.approx((20 + 120) / 2)
    assert gain[0] == pytest.approx((20 + 0) / 2)
    assert gain[1] == pytest.approx(10 * math.sqrt(0.5))


def test_sweeps_are_worth_less(make_state: MakeState) -> None:
    half = evolve(SURE, p_consumed=0.5, p_swept=0.5)

    assert edge(make_state(), half).m_bps == pytest.approx(edge(make_state()).m_bps - 100.0)


def test_labels_of_another_group_do_not_count(make_state: MakeState) -> None:
    labels = Calibration(group_of={}, labels={"wide": MarkoutLabels(count=999, mean_bps=1.0, se_bps=1.0)})

    assert edge(make_state(), calibration=labels).source is EdgeSource.PRIOR
    assert edge(make_state(), calibration=labels).labels == 0


def test_a_spread_that_is_wide_only_now_captures_no_more_than_the_median(make_state: MakeState) -> None:
    state = make_state()

    assert edge(evolve(state, spread_p50_bps=100.0)).m_consumed_bps < 50.0


def test_score_is_bps_per_second_of_a_slot(make_state: MakeState) -> None:
    record = edge(make_state())

    assert score_of(record, evolve(SURE, p_consumed=0.5), 300.0) == pytest.approx(
        0.5 * (record.surplus_bps - record.se_bps) / (10 + 0.5 * 300)
    )


@given(small=st.floats(0, 1e5), more=st.floats(0, 1e5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_slippage_grows_with_size_and_ends_at_50_bps(small: float, more: float, make_state: MakeState) -> None:
    state = evolve(make_state(), bid_depth_10_quote=1e3, bid_depth_25_quote=4e3, bid_depth_50_quote=1e4)
    first, second = sell_slippage_bps(state, small), sell_slippage_bps(state, small + more)

    if first is None:
        assert small > 1e4 - 1
        assert second is None
    elif second is not None:
        assert 0.0 <= first <= second + 1e-9
        assert second <= 50.0


def test_slippage_by_hand(make_state: MakeState) -> None:
    state = evolve(make_state(), bid_depth_10_quote=100.0, bid_depth_25_quote=200.0, bid_depth_50_quote=200.0)

    assert sell_slippage_bps(state, 50.0) == pytest.approx(2.5)
    assert sell_slippage_bps(state, 200.0) == pytest.approx((100 * 5 + 100 * 17.5) / 200)
    assert sell_slippage_bps(state, 201.0) is None
    assert sell_slippage_bps(evolve(state, bid_depth_10_quote=None), 1.0) is None


@pytest.mark.parametrize(
    ("stop_bps", "target_bps"), [(65.0, 400.0), (1260.0, 400.0), (1260.0, 50.0), (65.0, 1e9), (1e9, 1e9)]
)
def test_on_a_martingale_stop_and_target_leave_the_expected_outcome_unchanged(
    stop_bps: float, target_bps: float
) -> None:
    """Goal: no choice of stop and target earns on a martingale mid. Method: walk, stop, take, or time out; mean = 0.

    The surplus has no term for either, so nothing else could make it depend on them.
    """
    rng = random.Random(5)
    outcomes = []
    for _ in range(3000):
        moved = 0.0
        for _ in range(150):
            moved += 20.0 if rng.random() < 0.5 else -20.0
            if moved <= -stop_bps or moved >= target_bps:
                break
        outcomes.append(moved)

    assert abs(fmean(outcomes)) < 4 * stdev(outcomes) / math.sqrt(len(outcomes))
    assert stdev(outcomes) > 0


def test_a_wider_stop_moves_the_size_and_no_term_of_the_edge_but_slippage(
    make_state: MakeState, make_inputs: Callable[..., PipelineInput]
) -> None:
    state = make_state()
    prior = DecisionSettings(edge=EdgeSettings(allow_prior=True))
    plans = [
        evaluate(make_inputs(evolve(state, spread_p90_bps=spread)), prior).to_execute for spread in (450.0, 1350.0)
    ]
    (near, wide) = (plan.plan for plan in plans if plan is not None)
    near_edge: Any = dict(near.record)["edge"]
    wide_edge: Any = dict(wide.record)["edge"]

    assert wide.exit_profile.stop_distance_bps == 3 * near.exit_profile.stop_distance_bps
    assert wide.qty < near.qty
    assert wide_edge["se_bps"] == near_edge["se_bps"]
    cheaper_exit = 0.7 * (near_edge["slippage_bps"] - wide_edge["slippage_bps"])
    shifted_mix = near_edge["m_bps"] - wide_edge["m_bps"]
    assert wide_edge["surplus_bps"] == pytest.approx(near_edge["surplus_bps"] + cheaper_exit - shifted_mix)
    # A smaller order is swept a little less often past the touch: that is size, not the stop.
    assert abs(shifted_mix) < 0.5


@pytest.mark.parametrize("changed", [{"min_surplus_bps": 4.9}, {"min_labels": 0}, {"min_se_bps": 0.0}])
def test_floors_of_the_edge_cannot_be_set_lower(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        EdgeSettings(**changed)
