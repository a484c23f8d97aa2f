from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict, evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import krakenbot
from krakenbot.domain.decision.blocker import BlockerCode
from krakenbot.domain.decision.edge import Calibration, EdgeSettings, MarkoutLabels
from krakenbot.domain.decision.pipeline import (
    Blocked,
    CycleResult,
    DecisionSettings,
    Execute,
    HeldPosition,
    PipelineInput,
    evaluate,
)
from krakenbot.domain.decision.plan import QueueAction
from krakenbot.domain.decision.regime import Regime
from krakenbot.domain.decision.views import RateView
from krakenbot.domain.instrument import InstrumentStatus
from krakenbot.domain.state.epoch import EpochStatus
from krakenbot.domain.state.safety import EngineMode, EngineState, SafetyMode, SymbolSafety
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import Asset, GenerationId, Symbol

PRIOR = DecisionSettings(edge=EdgeSettings(allow_prior=True))
A, B = Symbol("AAA/USD"), Symbol("BBB/USD")
USD = Asset("USD")

MakeState = Callable[..., SymbolState]
MakeInputs = Callable[..., PipelineInput]


def code_of(result: CycleResult) -> BlockerCode | None:
    (outcome,) = result.outcomes
    return outcome.blocker.code if isinstance(outcome, Blocked) else None


def as_bytes(result: CycleResult) -> bytes:
    return json.dumps(asdict(result), default=str, allow_nan=False).encode()


def test_wide_quiet_symbol_is_entered_ahead_of_its_queue(make_state: MakeState, make_inputs: MakeInputs) -> None:
    result = evaluate(make_inputs(make_state()), PRIOR)
    (outcome,) = result.outcomes

    assert isinstance(outcome, Execute)
    plan = outcome.approved.plan
    assert result.to_execute is outcome.approved
    assert plan.price == Decimal("9.8001")
    assert plan.action is QueueAction.IMPROVE
    assert plan.regime == Regime.RANGE
    assert Decimal(150) < plan.price * plan.qty < Decimal(200)
    assert plan.exit_profile.stop_distance_bps == pytest.approx(1260.0)
    edge: Any = plan.record["edge"]
    assert edge["source"] == "prior"
    assert edge["surplus_bps"] - edge["se_bps"] >= 5.0
    assert set(result.funnel.values()) == {1}


@pytest.mark.parametrize("half_spread_bps", [5.0, 20.0, 70.0, 120.0])
def test_spread_that_does_not_pay_the_fees_is_never_entered(
    half_spread_bps: float, make_state: MakeState, make_inputs: MakeInputs
) -> None:
    result = evaluate(make_inputs(make_state(half_spread_bps=half_spread_bps)), PRIOR)

    assert code_of(result) in {BlockerCode.HURDLE, BlockerCode.SURPLUS}


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_ten_bps_spread_is_never_entered_whatever_else_is_measured(
    data: st.DataObject, make_state: MakeState, make_inputs: MakeInputs
) -> None:
    base = make_state(half_spread_bps=5.0)
    state = evolve(
        base,
        sigma_bps_sqrt_min=data.draw(st.floats(0.1, 300)),
        drift_t=data.draw(st.floats(-10, 10)),
        ofi_z=data.draw(st.floats(-5, 5)),
        buy_volume_quote=data.draw(st.floats(0, 1e6)),
        bid_markout_5s_bps=data.draw(st.floats(-50, 50)),
        bid_queue_quote=data.draw(st.floats(1, 1e5)),
        return_long_bps=data.draw(st.floats(-100, 100)),
    )

    assert evaluate(make_inputs(state), PRIOR).to_execute is None


def test_bid_is_joined_where_the_spread_has_no_room_to_improve(make_state: MakeState, make_inputs: MakeInputs) -> None:
    inputs = make_inputs(make_state())
    coarse = {A: evolve(inputs.instruments[A], price_increment=Decimal("0.2"))}
    result = evaluate(evolve(inputs, instruments=coarse), PRIOR)

    assert result.to_execute is not None
    assert result.to_execute.plan.action is QueueAction.JOIN
    assert result.to_execute.plan.price == Decimal("9.8000")


def test_slow_queue_is_passed_by_improving_where_the_spread_has_room(
    make_state: MakeState, make_inputs: MakeInputs
) -> None:
    result = evaluate(_slow_queue(make_inputs(make_state()), room=True), PRIOR)

    assert result.to_execute is not None
    assert result.to_execute.plan.action is QueueAction.IMPROVE
    assert result.to_execute.plan.price == Decimal("9.8001")


def test_without_labels_and_prior_the_symbol_is_warming_up(make_state: MakeState, make_inputs: MakeInputs) -> None:
    result = evaluate(make_inputs(make_state()), DecisionSettings())
    (outcome,) = result.outcomes

    assert isinstance(outcome, Blocked)
    assert outcome.blocker.code is BlockerCode.WARMING_UP
    assert (outcome.blocker.value, outcome.blocker.limit) == (0, 200)


@pytest.mark.parametrize(("count", "source"), [(199, None), (200, "measured")])
def test_enough_labels_of_the_group_replace_the_prior(
    count: int, source: str | None, make_state: MakeState, make_inputs: MakeInputs
) -> None:
    labels = MarkoutLabels(count=count, mean_bps=190.0, se_bps=6.0)
    calibration = Calibration(group_of={A: "wide"}, labels={"wide": labels})
    result = evaluate(evolve(make_inputs(make_state()), calibration=calibration), DecisionSettings())

    assert (result.to_execute is not None) is (source is not None)
    if result.to_execute is not None:
        edge: Any = result.to_execute.plan.record["edge"]
        assert edge["source"] == source
        assert edge["m_bps"] == pytest.approx(190.0)


BREAKS: list[tuple[BlockerCode, Callable[[PipelineInput], PipelineInput]]] = [
    (
        BlockerCode.ENGINE_MODE,
        lambda i: evolve(i, engine_state=EngineState(mode=EngineMode.EXIT_ONLY, reason="x", since=None)),
    ),
    (
        BlockerCode.ENGINE_MODE,
        lambda i: evolve(i, engine_state=evolve(i.engine_state, latch="day loss")),
    ),
    (BlockerCode.LEASE, lambda i: evolve(i, system=evolve(i.system, lease_held=False))),
    (BlockerCode.EXCHANGE_MODE, lambda i: evolve(i, system=evolve(i.system, venue_status="post_only"))),
    (BlockerCode.RECONCILIATION, lambda i: evolve(i, system=evolve(i.system, reconciled=False))),
    (
        BlockerCode.RATE_BUDGET,
        lambda i: evolve(i, system=evolve(i.system, rate=RateView(points=dict.fromkeys(i.states, 26.1)))),
    ),
    (BlockerCode.GENERATION, lambda i: evolve(i, system=evolve(i.system, asked_generation=GenerationId(8)))),
    (BlockerCode.GENERATION, lambda i: evolve(i, system=evolve(i.system, asked_generation=None))),
    (BlockerCode.EPOCH, lambda i: evolve(i, epoch=None)),
    (BlockerCode.EPOCH, lambda i: _with_epoch(i, status=EpochStatus.DEGRADED)),
    (BlockerCode.EPOCH, lambda i: _with_epoch(i, created_at=i.at - timedelta(seconds=121))),
    (
        BlockerCode.SYMBOL_SAFETY,
        lambda i: evolve(
            i, safety={A: SymbolSafety(symbol=A, mode=SafetyMode.QUIET, reason="x", since=i.at, until=None)}
        ),
    ),
    (BlockerCode.UNKNOWN_ORDER, lambda i: evolve(i, account=evolve(i.account, unknown_symbols=frozenset({A})))),
    (BlockerCode.TIE_OUT, lambda i: evolve(i, account=evolve(i.account, untied={Asset("AAA"): "x"}))),
    (BlockerCode.TIE_OUT, lambda i: evolve(i, account=evolve(i.account, untied={USD: "x"}))),
    (
        BlockerCode.INSTRUMENT_STATUS,
        lambda i: evolve(i, instruments={A: evolve(i.instruments[A], status=InstrumentStatus.CANCEL_ONLY)}),
    ),
    (BlockerCode.INSTRUMENT_STATUS, lambda i: evolve(i, instruments={})),
    (BlockerCode.STATE_MISSING, lambda i: evolve(i, states={})),
    (BlockerCode.STATE_MISSING, lambda i: _with(i, generation_id=GenerationId(6))),
    (BlockerCode.STATE_STALE, lambda i: _with(i, computed_at=i.at - timedelta(seconds=46))),
    (BlockerCode.BOOK_INVALID, lambda i: _with(i, bid=None, ask=None, mid=None)),
    (BlockerCode.BOOK_INVALID, lambda i: _with(i, bid=11.0)),
    (BlockerCode.BOOK_STALE, lambda i: _with(i, l2_age_s=5.1)),
    (BlockerCode.INCOMPLETE, lambda i: _with(i, feature_complete=False)),
    (BlockerCode.REGIME, lambda i: _with(i, invalid_s=6.0)),
    (BlockerCode.REGIME, lambda i: _with(i, drift_t=-4.0)),
    (BlockerCode.REGIME, lambda i: _with(i, bid_depth_50_quote=10.0)),
    (BlockerCode.SURPLUS, lambda i: _with(i, bid_markout_30s_bps=-200.0, bid_markout_count=4000)),
    (BlockerCode.QUEUE_DECISION, lambda i: _with(i, ofi_z=-2.1)),
    (BlockerCode.QUEUE_DECISION, lambda i: _with(i, microprice_dev_bps=-110.0)),
    (BlockerCode.FILL_UNKNOWN, lambda i: _with(i, sell_to_bid_per_s_quote=None)),
    (BlockerCode.FILL_PROBABILITY, lambda i: _slow_queue(i, room=False)),
    (BlockerCode.STALE_ACCOUNT, lambda i: evolve(i, fees={})),
    (BlockerCode.STALE_ACCOUNT, lambda i: evolve(i, system=evolve(i.system, account_age_s=None))),
    (BlockerCode.OPEN_ORDER, lambda i: evolve(i, account=evolve(i.account, open_entries={A: Decimal(1)}))),
    (
        BlockerCode.OPEN_POSITION,
        lambda i: evolve(
            i, account=evolve(i.account, positions={A: HeldPosition(qty=Decimal(1), cost_quote=Decimal(10))})
        ),
    ),
    (
        BlockerCode.CAPITAL,
        lambda i: evolve(
            i,
            account=evolve(
                i.account,
                available_quote={USD: Decimal(50)},
                positions={B: HeldPosition(qty=Decimal(1), cost_quote=Decimal(20_000))},
            ),
        ),
    ),
    (BlockerCode.MINIMUM_SIZE, lambda i: evolve(i, account=evolve(i.account, configured_quote={USD: Decimal(20)}))),
]


def _with_epoch(inputs: PipelineInput, **changed: Any) -> PipelineInput:
    return inputs if inputs.epoch is None else evolve(inputs, epoch=evolve(inputs.epoch, **changed))


def _slow_queue(inputs: PipelineInput, *, room: bool) -> PipelineInput:
    step = Decimal("0.0001" if room else "0.2")
    instruments = {symbol: evolve(known, price_increment=step) for symbol, known in inputs.instruments.items()}
    slow = _with(inputs, sell_to_bid_per_s_quote=10.0, bid_cancel_per_s_quote=0.0)
    return evolve(slow, instruments=instruments)


def _with(inputs: PipelineInput, **changed: Any) -> PipelineInput:
    return evolve(inputs, states={A: evolve(inputs.states[A], **changed)})


@pytest.mark.parametrize(("code", "broken"), BREAKS)
def test_each_condition_blocks_by_its_own_name(
    code: BlockerCode,
    broken: Callable[[PipelineInput], PipelineInput],
    make_state: MakeState,
    make_inputs: MakeInputs,
) -> None:
    inputs = make_inputs(make_state())
    # Queue and toxicity tests must not fail for want of the candidate itself.
    assert code_of(evaluate(inputs, PRIOR)) is None

    assert code_of(evaluate(broken(inputs), PRIOR)) is code


@given(chosen=st.sets(st.integers(0, len(BREAKS) - 1), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_dominant_blocker_is_the_first_by_precedence(
    chosen: set[int], make_state: MakeState, make_inputs: MakeInputs
) -> None:
    inputs = make_inputs(make_state())
    for index in sorted(chosen):
        broken = BREAKS[index][1]
        # Breaks of the state need a state, and replace it; the missing one goes last.
        if index != [code for code, _ in BREAKS].index(BlockerCode.STATE_MISSING):
            inputs = broken(inputs)
    result = evaluate(inputs, PRIOR)
    (outcome,) = result.outcomes

    if isinstance(outcome, Blocked):
        ranks = [code.precedence for code in outcome.others]
        assert all(outcome.blocker.code.precedence < rank for rank in ranks)
        assert ranks == sorted(ranks)
    else:
        assert chosen == {[code for code, _ in BREAKS].index(BlockerCode.STATE_MISSING)}


SPREADS = st.lists(st.floats(5, 300), min_size=1, max_size=6)


@given(SPREADS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_same_input_gives_same_bytes_one_outcome_each_and_at_most_one_execute(
    make_state: MakeState, make_inputs: MakeInputs, spreads: list[float]
) -> None:
    states = [make_state(f"S{i}", half_spread_bps=spread) for i, spread in enumerate(spreads)]
    first = evaluate(make_inputs(*states), PRIOR)
    again = evaluate(make_inputs(*reversed(states)), PRIOR)

    assert as_bytes(first) == as_bytes(again)
    assert [outcome.symbol for outcome in first.outcomes] == sorted(state.symbol for state in states)
    executed = [outcome for outcome in first.outcomes if isinstance(outcome, Execute)]
    assert len(executed) == first.funnel["executed"] <= 1
    counts = list(first.funnel.values())
    assert counts == sorted(counts, reverse=True)


def test_best_score_goes_first_and_ties_go_by_symbol(make_state: MakeState, make_inputs: MakeInputs) -> None:
    better = evaluate(make_inputs(make_state("AAA"), make_state("BBB", half_spread_bps=230)), PRIOR)
    tied = evaluate(make_inputs(make_state("AAA"), make_state("BBB")), PRIOR)

    assert better.to_execute is not None
    assert better.to_execute.plan.symbol == B
    assert tied.to_execute is not None
    assert tied.to_execute.plan.symbol == A
    outranked = tied.outcomes[1]
    assert isinstance(outranked, Blocked)
    assert outranked.blocker.code is BlockerCode.OUTRANKED


def test_since_is_the_first_cycle_that_saw_the_blocker(make_state: MakeState, make_inputs: MakeInputs) -> None:
    inputs = make_inputs(make_state(half_spread_bps=5))
    first = evaluate(inputs, PRIOR)
    later = evaluate(evolve(inputs, at=inputs.at + timedelta(seconds=2), memory=first.memory), PRIOR)
    (before,), (after,) = first.outcomes, later.outcomes

    assert isinstance(before, Blocked)
    assert isinstance(after, Blocked)
    assert before.blocker.since is None
    assert after.blocker.since == inputs.at


def test_half_filled_windows_set_no_regime(make_state: MakeState, make_inputs: MakeInputs) -> None:
    state = evolve(make_state(), feature_complete=False, jumps=3)
    result = evaluate(make_inputs(state), PRIOR)

    assert result.memory.regimes == {}


def test_without_a_universe_states_are_explained_and_none_is_entered(
    make_state: MakeState, make_inputs: MakeInputs
) -> None:
    result = evaluate(evolve(make_inputs(make_state()), universe=None), PRIOR)
    (outcome,) = result.outcomes

    assert isinstance(outcome, Blocked)
    assert outcome.blocker.code is BlockerCode.EPOCH
    assert BlockerCode.NOT_IN_UNIVERSE in outcome.others


@given(
    bid=st.decimals("0.001", "90000", places=4),
    equity=st.integers(2000, 10**6),
    half_spread_bps=st.floats(160, 260),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_price_and_quantity_are_decimals_on_the_increments(
    bid: Decimal, equity: int, half_spread_bps: float, make_state: MakeState, make_inputs: MakeInputs
) -> None:
    inputs = make_inputs(make_state(half_spread_bps=half_spread_bps, mid=float(bid)))
    money = {USD: Decimal(equity)}
    account = evolve(inputs.account, configured_quote=money, balance_quote=money, available_quote=money)
    result = evaluate(evolve(inputs, account=account), PRIOR)

    if result.to_execute is not None:
        plan = result.to_execute.plan
        instrument = inputs.instruments[plan.symbol]
        assert isinstance(plan.price, Decimal)
        assert isinstance(plan.qty, Decimal)
        assert plan.price % instrument.price_increment == 0
        assert plan.qty % instrument.qty_increment == 0
        assert instrument.price_of(instrument.ticks_of(plan.price)) == plan.price
        bid_now = inputs.states[A].bid
        assert bid_now is not None
        assert abs(float(plan.price) - bid_now) <= 1.0001e-4


def test_only_the_risk_gate_makes_approvals() -> None:
    package = Path(krakenbot.__file__).parent
    makers = [path.name for path in package.rglob("*.py") if "RiskApproved(" in path.read_text()]

    assert sorted(makers) == ["plan.py", "risk.py"]
