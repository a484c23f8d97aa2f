from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.candidate import Candidate
from krakenbot.domain.decision.edge import EdgeRecord, EdgeSettings, EdgeSource
from krakenbot.domain.decision.fill_probability import FillEstimate, QueueSource
from krakenbot.domain.decision.pipeline import DecisionSettings, Fees, PipelineInput
from krakenbot.domain.decision.plan import ExitProfile, QueueAction, StopTrigger
from krakenbot.domain.decision.scoring import edge_score
from krakenbot.domain.decision.sizing import Sized, SizingSettings, size_quote_from_edge
from krakenbot.domain.decision.strategy import Proposal
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import Symbol

MakeState = Callable[..., SymbolState]
MakeInputs = Callable[..., PipelineInput]
FEES = Fees(maker_bps=Decimal(25), taker_bps=Decimal(40))
EQUITY = Decimal(25_000)


def candidate(price: Decimal, *, net_bps: float = 30.0, stop_bps: float = 1260.0, factor: float = 1.0) -> Candidate:
    return Candidate(
        symbol=Symbol("AAA/USD"),
        proposal=Proposal(
            strategy="liquidity",
            horizon_s=300.0,
            ttl_s=60.0,
            exit_profile=ExitProfile(
                stop_distance_bps=stop_bps,
                take_profit_bps=400.0,
                trail_distance_bps=None,
                time_stop_s=600.0,
                stop_trigger=StopTrigger.LAST,
            ),
            may_improve=True,
            size_factor=factor,
            max_state_age_s=45.0,
            hurdle_value_bps=400.0,
            hurdle_limit_bps=70.0,
        ),
        action=QueueAction.JOIN,
        price=price,
        fill=FillEstimate(
            source=QueueSource.L3,
            p_consumed=0.9,
            p_swept=0.0,
            p_away=0.1,
            p_cancelled=0.0,
            rest_s=5.0,
            ahead_quote=0.0,
        ),
        edge=EdgeRecord(
            source=EdgeSource.PRIOR,
            labels=0,
            m_consumed_bps=180.0,
            m_swept_bps=-20.0,
            m_bps=180.0,
            se_bps=5.0,
            p_maker_exit=0.3,
            half_spread_exit_bps=200.0,
            slippage_bps=2.0,
            maker_fee_bps=25.0,
            taker_fee_bps=40.0,
            entry_fee_bps=25.0,
            surplus_bps=net_bps + 5.0,
        ),
        score=0.1,
    )


@given(
    net_bps=st.floats(0.001, 500),
    stop_bps=st.floats(65, 3000),
    depth_25=st.floats(0, 1e6),
    depth_50=st.floats(0, 1e6),
    sells=st.floats(0, 1e4),
    equity=st.integers(0, 10**7),
    factor=st.sampled_from([0.5, 1.0]),
    cap=st.none() | st.integers(1, 10_000).map(Decimal),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_size_never_exceeds_any_bound(  # noqa: PLR0917 - drawn by name
    net_bps: float,
    stop_bps: float,
    depth_25: float,
    depth_50: float,
    sells: float,
    equity: int,
    factor: float,
    cap: Decimal | None,
    make_state: MakeState,
    make_inputs: MakeInputs,
) -> None:
    state = evolve(
        make_state(), bid_depth_25_quote=depth_25, bid_depth_50_quote=depth_50, sell_to_bid_per_s_quote=sells
    )
    instrument = make_inputs(state).instruments[state.symbol]
    one = candidate(Decimal("9.8000"), net_bps=net_bps, stop_bps=stop_bps, factor=factor)
    sized = size_quote_from_edge(
        one,
        state,
        instrument,
        equity=Decimal(equity),
        fees=FEES,
        settings=SizingSettings(max_notional_quote=cap),
    )

    if isinstance(sized, Blocker):
        assert sized.code in {BlockerCode.DEPTH, BlockerCode.MINIMUM_SIZE}
        return
    assert sized.qty * one.price == sized.notional_quote
    assert all(float(sized.notional_quote) <= bound * factor for bound in sized.bounds.values())
    assert float(sized.notional_quote) <= 0.05 * depth_25
    assert float(sized.notional_quote) * 20 <= depth_50
    assert sized.qty >= 5 * instrument.qty_min
    assert sized.notional_quote >= 5 * instrument.cost_min
    assert sized.qty % instrument.qty_increment == 0
    assert cap is None or sized.notional_quote <= cap
    # What the stop may lose, with slippage and fee, is at most 10 bps of equity.
    assert float(sized.notional_quote) * (stop_bps + 2 + 40) <= equity * 10 * (1 + 1e-12)


def test_size_by_hand(make_state: MakeState, make_inputs: MakeInputs) -> None:
    state = make_state()
    sized = size_quote_from_edge(
        candidate(Decimal("9.8000")),
        state,
        make_inputs(state).instruments[state.symbol],
        equity=EQUITY,
        fees=FEES,
        settings=SizingSettings(),
    )

    assert isinstance(sized, Sized)
    assert sized.binding == "risk"
    assert sized.bounds["risk"] == pytest.approx(25_000 * 10 / 1302)
    assert sized.variance == pytest.approx((8e-4) ** 2 * 5 + 0.02**2)
    assert sized.bounds["kelly"] == pytest.approx(25_000 * 0.25 * 0.003 / sized.variance)
    assert sized.bounds["depth_25"] == pytest.approx(300.0)
    assert sized.bounds["sell_volume"] == pytest.approx(6000.0)


@pytest.mark.parametrize(
    ("changed", "equity", "code"),
    [({"bid_depth_25_quote": 20.0}, EQUITY, BlockerCode.DEPTH), ({}, Decimal(30), BlockerCode.MINIMUM_SIZE)],
)
def test_size_under_five_minimum_orders_is_refused(
    changed: dict[str, Any], equity: Decimal, code: BlockerCode, make_state: MakeState, make_inputs: MakeInputs
) -> None:
    state = evolve(make_state(), **changed)
    refused = size_quote_from_edge(
        candidate(Decimal("9.8000")),
        state,
        make_inputs(state).instruments[state.symbol],
        equity=equity,
        fees=FEES,
        settings=SizingSettings(),
    )

    assert isinstance(refused, Blocker)
    assert refused.code is code
    assert refused.limit == pytest.approx(5 * 0.1 * 9.8)


def test_slippage_is_walked_for_at_least_the_final_size(make_state: MakeState, make_inputs: MakeInputs) -> None:
    state = make_state()
    inputs = make_inputs(state)
    prior = DecisionSettings(edge=EdgeSettings(allow_prior=True))
    scored = edge_score(state.symbol, inputs, EQUITY, prior)
    assert scored.candidate is not None
    sized = size_quote_from_edge(
        scored.candidate,
        state,
        inputs.instruments[state.symbol],
        equity=EQUITY,
        fees=FEES,
        settings=SizingSettings(),
    )

    assert isinstance(sized, Sized)
    # Depth within 10 bps is 2500: the walked size is slippage / 5 bps of it.
    assert scored.candidate.edge.slippage_bps / 5 * 2500 >= float(sized.notional_quote)


@pytest.mark.parametrize(
    "changed", [{"risk_bps": 51.0}, {"kelly_share": 0.6}, {"depth_25_share": 0.06}, {"slot_share": 0.11}]
)
def test_shares_may_not_exceed_their_ceilings(changed: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SizingSettings(**changed)  # type: ignore[arg-type]
