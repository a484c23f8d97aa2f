from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.pipeline import Fees, PipelineInput
from krakenbot.domain.decision.plan import StopTrigger
from krakenbot.domain.decision.regime import Regime, RegimeMemory, RegimeView
from krakenbot.domain.decision.strategies import STRATEGIES
from krakenbot.domain.decision.strategies.liquidity import Liquidity
from krakenbot.domain.decision.strategies.momentum import Momentum
from krakenbot.domain.decision.strategies.no_trading import NoTrading
from krakenbot.domain.decision.strategies.volume import Volume
from krakenbot.domain.decision.strategy import Proposal, StrategySettings, StrategyView, stop_distance_bps
from krakenbot.domain.state.symbol_state import SymbolState

MakeState = Callable[..., SymbolState]
MakeView = Callable[..., StrategyView]


@pytest.fixture
def make_view(make_state: MakeState, make_inputs: Callable[..., PipelineInput]) -> MakeView:
    def make(regime: Regime = Regime.RANGE, adverse_bps: float = 10.0, **changed: Any) -> StrategyView:
        state = evolve(make_state(), **changed)
        inputs = make_inputs(state)
        memory = RegimeMemory(regime=regime, since=inputs.at)
        return StrategyView(
            state=state,
            regime=RegimeView(regime=regime, confidence=1.0, candidate=regime, measures={"x": 1.0}, memory=memory),
            instrument=inputs.instruments[state.symbol],
            fees=Fees(maker_bps=Decimal(25), taker_bps=Decimal(40)),
            adverse_bps=adverse_bps,
            settings=StrategySettings(),
        )

    return make


def test_every_regime_has_a_strategy_and_bad_ones_only_no_trading() -> None:
    by_regime = {regime: [s.name for s in STRATEGIES if regime in s.regimes] for regime in Regime}

    assert by_regime == {
        Regime.CHAOS: ["no_trading"],
        Regime.LOW_LIQUIDITY: ["no_trading"],
        Regime.HIGH_VOLATILITY: ["liquidity", "volume"],
        Regime.TREND_UP: ["momentum", "volume"],
        Regime.TREND_DOWN: ["no_trading"],
        Regime.RANGE: ["liquidity", "volume"],
    }


@pytest.mark.parametrize(("spread_bps", "met"), [(65.0, True), (64.9, False)])
def test_liquidity_hurdle_is_two_maker_fees_adverse_move_and_five(
    spread_bps: float, met: bool, make_view: MakeView
) -> None:
    answer = Liquidity().propose(make_view(spread_p50_bps=spread_bps))

    assert isinstance(answer, Proposal) is met
    if isinstance(answer, Blocker):
        assert (answer.code, answer.value, answer.limit) == (BlockerCode.HURDLE, spread_bps, 65.0)


def test_high_volatility_halves_the_size(make_view: MakeView) -> None:
    calm, wild = Liquidity().propose(make_view()), Liquidity().propose(make_view(Regime.HIGH_VOLATILITY))

    assert isinstance(calm, Proposal)
    assert isinstance(wild, Proposal)
    assert (calm.size_factor, wild.size_factor) == (1.0, 0.5)


def test_momentum_takes_the_shortest_horizon_that_pays_the_fees(make_view: MakeView) -> None:
    quick = Momentum().propose(make_view(Regime.TREND_UP, sigma_bps_sqrt_min=40.0))
    slow = Momentum().propose(make_view(Regime.TREND_UP, sigma_bps_sqrt_min=9.75))
    never = Momentum().propose(make_view(Regime.TREND_UP, sigma_bps_sqrt_min=6.0))

    assert isinstance(quick, Proposal)
    assert quick.horizon_s == 600.0
    assert isinstance(slow, Proposal)
    assert slow.horizon_s == pytest.approx(6000.0)
    assert slow.hurdle_value_bps == pytest.approx(97.5)
    assert isinstance(never, Blocker)
    assert never.limit == 97.5


def test_spent_move_is_not_joined(make_view: MakeView) -> None:
    answer = Momentum().propose(make_view(Regime.TREND_UP, sigma_bps_sqrt_min=20.0, return_long_bps=500.0))

    assert isinstance(answer, Blocker)
    assert "spent" in answer.detail


@pytest.mark.parametrize(
    ("changed", "proposes"),
    [
        ({}, True),
        ({"ofi_z": 1.9}, False),
        ({"ofi_z": None}, False),
        ({"sell_volume_quote": 5000.0}, False),
        ({"sigma_bps_sqrt_min": 8.0}, False),
    ],
)
def test_volume_needs_flow_surge_and_movement(changed: dict[str, Any], proposes: bool, make_view: MakeView) -> None:
    good = {"ofi_z": 3.0, "buy_volume_quote": 9000.0, "sell_volume_quote": 1000.0, "sigma_bps_sqrt_min": 20.0}

    assert proposes is isinstance(Volume().propose(make_view(**{**good, **changed})), Proposal)


@pytest.mark.parametrize(
    ("sigma", "spread_p90", "horizon_s", "expected"),
    [(1.0, 5.0, 300.0, 65.0), (1.0, 400.0, 300.0, 1200.0), (20.0, 5.0, 300.0, 111.8), (20.0, 5.0, 14_400.0, 273.86)],
)
def test_stop_is_the_widest_of_three_and_its_horizon_ends_at_30_min(
    sigma: float, spread_p90: float, horizon_s: float, expected: float, make_state: MakeState
) -> None:
    state = evolve(make_state(), sigma_bps_sqrt_min=sigma, spread_p90_bps=spread_p90)

    assert stop_distance_bps(state, horizon_s) == pytest.approx(expected, rel=1e-3)


def test_stop_triggers_on_the_index_where_there_is_one(make_view: MakeView) -> None:
    view = make_view()
    with_index = Liquidity().propose(evolve(view, instrument=evolve(view.instrument, has_index=True)))
    without = Liquidity().propose(view)

    assert isinstance(with_index, Proposal)
    assert isinstance(without, Proposal)
    assert with_index.exit_profile.stop_trigger is StopTrigger.INDEX
    assert without.exit_profile.stop_trigger is StopTrigger.LAST


@pytest.mark.parametrize(
    "changed",
    [{"liquidity_margin_bps": 4.9}, {"move_multiple": 1.4}, {"liquidity_max_state_age_s": 46.0}, {"move_ttl_s": 0.0}],
)
def test_hurdles_cannot_be_set_lower(changed: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        StrategySettings(**changed)


def test_no_trading_tells_a_regime_from_one_that_its_dwell_holds(make_view: MakeView) -> None:
    view = make_view(Regime.CHAOS)
    now = NoTrading().propose(view)
    held = NoTrading().propose(evolve(view, regime=evolve(view.regime, candidate=Regime.RANGE)))

    assert isinstance(now, Blocker)
    assert isinstance(held, Blocker)
    assert now.detail == "chaos"
    assert held.detail == "chaos, held by its dwell; now range"
