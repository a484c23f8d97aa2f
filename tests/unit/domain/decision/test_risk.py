from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.domain.decision.blocker import BlockerCode
from krakenbot.domain.decision.edge import EdgeSettings
from krakenbot.domain.decision.pipeline import (
    Blocked,
    CycleResult,
    DecisionSettings,
    HeldPosition,
    PipelineInput,
    PipelineMemory,
    evaluate,
)
from krakenbot.domain.decision.plan import RiskRefused
from krakenbot.domain.decision.risk import approve_entry, risk_context
from krakenbot.domain.decision.risk_settings import RiskSettings
from krakenbot.domain.state.exposure import reserve_quote
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import Asset, Symbol

MakeState = Callable[..., SymbolState]
MakeInputs = Callable[..., PipelineInput]
PRIOR = DecisionSettings(edge=EdgeSettings(allow_prior=True))
A, USD = Symbol("AAA/USD"), Asset("USD")
OTHERS = [Symbol(f"{name}/USD") for name in "CDEFGHIJKLM"]


def with_account(inputs: PipelineInput, **changed: Any) -> PipelineInput:
    return evolve(inputs, account=evolve(inputs.account, **changed))


def code_of(result: CycleResult) -> BlockerCode | None:
    (outcome,) = result.outcomes
    return outcome.blocker.code if isinstance(outcome, Blocked) else None


@pytest.fixture
def ready(make_state: MakeState, make_inputs: MakeInputs) -> PipelineInput:
    return make_inputs(make_state())


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"open_entries": {OTHERS[0]: Decimal(7000)}}, None),
        ({"open_entries": {OTHERS[0]: Decimal(7400)}}, BlockerCode.EXPOSURE),
        ({"open_entries": dict.fromkeys(OTHERS[:9], Decimal(1))}, None),
        ({"open_entries": dict.fromkeys(OTHERS[:10], Decimal(1))}, BlockerCode.OPEN_ORDERS_LIMIT),
        ({"entries_last_minute": 9}, None),
        ({"entries_last_minute": 10}, BlockerCode.ORDER_RATE),
        ({"realized_today_quote": Decimal(-249)}, None),
        ({"realized_today_quote": Decimal(-250)}, BlockerCode.DAY_LOSS),
        ({"realized_total_quote": Decimal(-1249)}, None),
        ({"realized_total_quote": Decimal(-1250)}, BlockerCode.DRAWDOWN),
        ({"peak_pnl_quote": Decimal(1249)}, None),
        ({"peak_pnl_quote": Decimal(1250)}, BlockerCode.DRAWDOWN),
        ({"last_unseen_fill_age_s": 600.0}, None),
        ({"last_unseen_fill_age_s": 599.0}, BlockerCode.UNSEEN_FILL),
        ({"entry_fills_last_minute": 2}, None),
        ({"entry_fills_last_minute": 3}, BlockerCode.CORRELATED_FILLS),
    ],
)
def test_each_limit_is_crossed_both_ways(
    changed: dict[str, Any], code: BlockerCode | None, ready: PipelineInput
) -> None:
    assert code_of(evaluate(with_account(ready, **changed), PRIOR)) is code


def test_btc_fall_holds_entries_for_ten_minutes(ready: PipelineInput) -> None:
    fell = evolve(ready, system=evolve(ready.system, btc_return_60s_sigmas=-4.1))
    first = evaluate(fell, PRIOR)
    memory = first.memory
    assert code_of(first) is BlockerCode.CORRELATED_FILLS

    for after_s, code in ((599, BlockerCode.CORRELATED_FILLS), (600, None)):
        at = ready.at + timedelta(seconds=after_s)
        assert memory.hold_entries_until is not None
        until = evolve(ready, memory=evolve(memory, hold_entries_until=memory.hold_entries_until - (at - ready.at)))
        assert code_of(evaluate(until, PRIOR)) is code


@pytest.mark.parametrize("code", [BlockerCode.DAY_LOSS, BlockerCode.DRAWDOWN])
def test_latch_stays_after_its_cause_is_gone(code: BlockerCode, ready: PipelineInput) -> None:
    result = evaluate(evolve(ready, memory=PipelineMemory(latched=frozenset({code}))), PRIOR)

    assert code_of(result) is code
    assert result.memory.latched == {code}


def test_tripped_latch_is_handed_on(ready: PipelineInput) -> None:
    result = evaluate(with_account(ready, realized_today_quote=Decimal(-5000)), PRIOR)

    assert result.memory.latched == {BlockerCode.DAY_LOSS}


@pytest.mark.parametrize(
    ("cost", "code"),
    [("10249", None), ("10250", BlockerCode.DAY_LOSS), ("9000", BlockerCode.EXPOSURE)],
)
def test_loss_on_paper_counts_however_much_more_the_account_holds(
    cost: str, code: BlockerCode | None, ready: PipelineInput
) -> None:
    """The account holds forty times the limit, and 100 of AAA that are worth 10,000 at the bid."""
    money = {USD: Decimal(1_000_000)}
    held = {A: HeldPosition(qty=Decimal(10_000) / Decimal(repr(ready.states[A].bid)), cost_quote=Decimal(cost))}
    inputs = with_account(ready, balance_quote=money, available_quote=money, positions=held)
    context = risk_context(inputs, PRIOR.risk)

    assert Decimal(25_000) == context.losses.day_base_quote == context.losses.drawdown_base_quote
    assert (code is BlockerCode.DAY_LOSS) is (BlockerCode.DAY_LOSS in context.latched)
    worse = risk_context(with_account(inputs, realized_total_quote=Decimal(-1300)), PRIOR.risk)
    assert BlockerCode.DRAWDOWN in worse.latched or cost == "9000"


def test_gain_on_paper_hides_no_realised_loss_of_the_day(ready: PipelineInput) -> None:
    held = {A: HeldPosition(qty=Decimal(1), cost_quote=Decimal(0))}
    context = risk_context(with_account(ready, positions=held, realized_today_quote=Decimal(-250)), PRIOR.risk)

    assert BlockerCode.DAY_LOSS in context.latched


def test_base_of_a_small_account_is_what_it_had(ready: PipelineInput) -> None:
    small = with_account(ready, balance_quote={USD: Decimal(990)}, realized_today_quote=Decimal(-10))

    assert Decimal(1000) == risk_context(small, PRIOR.risk).losses.day_base_quote
    assert BlockerCode.DAY_LOSS in risk_context(small, PRIOR.risk).latched


def test_price_far_from_the_mid_is_refused(ready: PipelineInput) -> None:
    strict = evolve(PRIOR, risk=RiskSettings(price_band_bps=100.0))

    assert code_of(evaluate(ready, strict)) is BlockerCode.PRICE_BAND


@given(
    held=st.lists(st.integers(0, 3000), max_size=6),
    possible=st.lists(st.integers(0, 3000), max_size=5),
    available=st.integers(0, 30_000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_limit_is_exceeded_with_every_possible_order_filled(
    held: list[int], possible: list[int], available: int, ready: PipelineInput
) -> None:
    positions = {
        symbol: HeldPosition(qty=Decimal(1), cost_quote=Decimal(cost))
        for symbol, cost in zip(OTHERS, held, strict=False)
    }
    entries = {symbol: Decimal(cost) for symbol, cost in zip(OTHERS[6:], possible, strict=False)}
    inputs = with_account(
        ready,
        positions=positions,
        open_entries=entries,
        balance_quote={USD: Decimal(available)},
        available_quote={USD: Decimal(available)},
    )
    result = evaluate(inputs, PRIOR)

    if result.to_execute is not None:
        plan = result.to_execute.plan
        equity = min(Decimal(25_000), Decimal(available) + sum(held))
        notional = plan.price * plan.qty
        assert sum(held) + sum(possible) + notional <= equity * Decimal("0.30")
        assert notional <= equity * Decimal("0.10")
        fee = Decimal(40)
        reserved = sum((reserve_quote(entry, fee) for entry in entries.values()), Decimal(0))
        assert reserve_quote(notional, fee) <= available
        assert reserved + reserve_quote(notional, fee) <= 25_000
        assert len(entries) < 10


def test_every_limit_is_checked_and_the_first_by_precedence_is_named(ready: PipelineInput) -> None:
    executed = evaluate(ready, PRIOR).to_execute
    assert executed is not None
    worse = with_account(ready, entries_last_minute=99, realized_today_quote=Decimal(-5000), last_unseen_fill_age_s=1.0)
    context = risk_context(worse, PRIOR.risk)
    verdict = approve_entry(executed.plan, ready.instruments[A], ready.fees[A], context, PRIOR.risk)

    assert isinstance(verdict, RiskRefused)
    assert verdict.blocker.code is BlockerCode.ORDER_RATE


def test_position_is_worth_its_bid_and_equity_ends_at_the_configured_capital(ready: PipelineInput) -> None:
    held = with_account(
        ready,
        positions={A: HeldPosition(qty=Decimal(100), cost_quote=Decimal(5000))},
        balance_quote={USD: Decimal(1000)},
    )
    rich = with_account(ready, balance_quote={USD: Decimal(10**9)})

    assert risk_context(held, PRIOR.risk).equity[USD] == Decimal(1980)
    assert risk_context(rich, PRIOR.risk).equity[USD] == Decimal(25_000)
    assert risk_context(with_account(ready, configured_quote={}), PRIOR.risk).equity == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"total_exposure_share": 0.51},
        {"symbol_exposure_share": 0.21},
        {"day_loss_share": 0.051},
        {"drawdown_share": 0.21},
        {"max_open_entries": 51},
        {"max_entries_per_min": 31},
        {"price_band_bps": 1000.1},
        {"unseen_fill_hold_s": 59.0},
        {"correlated_btc_sigmas": -11.0},
    ],
)
def test_settings_may_not_exceed_the_hard_ceilings(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RiskSettings(**changed)
