"""The ledger: what a fill does to two balances, and the fold that makes positions of fills."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.domain.errors import InvariantViolated
from krakenbot.domain.execution.fills import (
    Fill,
    FillRefused,
    assets_of,
    balance_deltas,
    fill_from_query,
    fill_from_report,
)
from krakenbot.domain.execution.position import apply_fill, flat_position, is_exact
from krakenbot.domain.execution.reports import Fee
from krakenbot.domain.values import Side

EVERYTHING = [HealthCheck.function_scoped_fixture]
AMOUNT = st.decimals(min_value="0.0001", max_value="100000", places=4)
FEE = st.decimals("-0.5", "5", places=4)
FILL = st.tuples(st.sampled_from(Side), AMOUNT, AMOUNT, FEE, st.sampled_from(["USD", "ABC", "FEE"]))


def fills_of(make, rows):
    return [
        make.fill(f"E-{n}", side=side, qty=str(qty), price=str(price), fee=str(fee), fee_asset=asset)
        for n, (side, qty, price, fee, asset) in enumerate(rows)
    ]


def fold(fills):
    position = flat_position("ABC/USD")
    for fill in fills:
        position = apply_fill(position, fill)
    return position


@given(rows=st.lists(FILL, max_size=25), order=st.randoms(use_true_random=False))
@settings(suppress_health_check=EVERYTHING)
def test_totals_do_not_depend_on_the_order_of_fills(make, rows, order):
    fills = fills_of(make, rows)
    shuffled = list(fills)
    order.shuffle(shuffled)
    first, second = fold(fills), fold(shuffled)

    assert first.qty == second.qty
    assert first.realized_quote - first.cost_quote == second.realized_quote - second.cost_quote


@given(rows=st.lists(FILL, max_size=25))
@settings(suppress_health_check=EVERYTHING)
def test_position_and_money_are_the_exact_balance_change(make, rows):
    fills = fills_of(make, rows)
    position = fold(fills)
    base = sum((balance_deltas(fill)[0] for fill in fills), Decimal(0))
    quote = sum((balance_deltas(fill)[1] for fill in fills), Decimal(0))

    assert base == position.qty
    assert quote == position.realized_quote - position.cost_quote


@given(parts=st.lists(AMOUNT, min_size=1, max_size=10), buy=AMOUNT, sell=AMOUNT)
@settings(suppress_health_check=EVERYTHING)
def test_closing_in_parts_realises_the_same_as_closing_at_once(make, parts, buy, sell):
    total = sum(parts)
    bought = fold([make.fill(qty=str(total), price=str(buy), fee="0")])
    whole = apply_fill(bought, make.fill("S", side=Side.SELL, qty=str(total), price=str(sell), fee="0"))
    step = bought
    for n, part in enumerate(parts):
        step = apply_fill(step, make.fill(f"S{n}", side=Side.SELL, qty=str(part), price=str(sell), fee="0"))

    assert whole.realized_quote == step.realized_quote
    assert Decimal(0) == step.qty == step.cost_quote


def test_entry_fee_is_part_of_the_cost_and_exit_fee_of_the_result(make):
    position = fold([make.fill("B", qty="2", price="100", fee="0.50")])
    closed = apply_fill(position, make.fill("S", side=Side.SELL, qty="2", price="110", fee="0.88"))

    assert Decimal("100.25") == position.average_price
    assert Decimal("18.62") == closed.realized_quote


def test_partial_close_keeps_the_average_price(make):
    position = fold([make.fill("B1", qty="1", price="100"), make.fill("B2", qty="1", price="200")])
    after = apply_fill(position, make.fill("S", side=Side.SELL, qty="0.5", price="300", fee="0"))

    assert position.average_price == after.average_price
    assert position.entry_id == after.entry_id


def test_fee_in_base_lowers_the_quantity_not_the_money(make):
    position = fold([make.fill(qty="1", price="100", fee="0.0025", fee_asset="ABC")])

    assert Decimal("0.9975") == position.qty
    assert Decimal(100) == position.cost_quote


def test_position_that_is_closed_forgets_its_entry_and_keeps_its_result(make):
    position = fold([make.fill("B"), make.fill("S", side=Side.SELL, price="90")])

    assert position.entry_id is None
    assert position.opened_at is None
    assert Decimal("-10.50") == position.realized_quote


def test_sell_seen_before_its_buy_ends_flat_with_the_same_result(make):
    buy, sell = make.fill("B"), make.fill("S", side=Side.SELL, price="110")

    assert fold([buy, sell]).realized_quote == fold([sell, buy]).realized_quote


def test_trade_without_a_fee_costs_nothing_in_the_quote_asset(make):
    fill = fill_from_report(make.order(), evolve(make.trade("E-1", "1"), fees=()), make.at)

    assert isinstance(fill, Fill)
    assert ("USD", Decimal(0)) == (fill.fee_asset, fill.fee_qty)


def test_fill_of_another_symbol_is_an_error_of_ours(make):
    with pytest.raises(InvariantViolated, match="I4"):
        apply_fill(flat_position("XYZ/USD"), make.fill())


@pytest.mark.parametrize(
    "fields",
    [
        {"last_price": Decimal(0)},
        {"last_price": None},
        {"last_qty": Decimal(0)},
        {"last_qty": Decimal(-1)},
        {"symbol": "X/USD"},
        {"exec_id": None},
        {"cost": Decimal(-1)},
        {"side": Side.SELL},
        {"fees": (Fee(asset="USD", qty=Decimal(1)), Fee(asset="ABC", qty=Decimal(1)))},
    ],
)
def test_trade_row_that_cannot_be_booked_is_refused(make, fields):
    good = {"exec_id": "E", "last_qty": Decimal(1), "last_price": Decimal(1)}
    report = make.report("trade", **{**good, **fields})

    assert isinstance(fill_from_report(make.order(), report, make.at), FillRefused)


@pytest.mark.parametrize(
    "fields",
    [
        {"price": Decimal(0)},
        {"qty": Decimal(0)},
        {"cost": Decimal(-1)},
        {"side": Side.SELL},
        {"symbol": "X/USD"},
    ],
)
def test_history_row_that_cannot_be_booked_is_refused(make, fields):
    assert isinstance(fill_from_query(make.order(), make.venue_fill(**fields), make.at), FillRefused)


def test_fees_of_one_asset_are_added_up(make):
    fees = (Fee(asset="USD", qty=Decimal("0.1")), Fee(asset="USD", qty=Decimal("0.2")))
    report = make.report("trade", exec_id="E", last_qty=Decimal(1), last_price=Decimal(1), fees=fees)
    fill = fill_from_report(make.order(), report, make.at)

    assert isinstance(fill, Fill)
    assert Decimal("0.3") == fill.fee_qty


def test_symbol_without_two_assets_is_an_error_of_ours():
    with pytest.raises(InvariantViolated, match="BASE/QUOTE"):
        assets_of("ABCUSD")


AMOUNTS = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent), st.integers(1, 10**12), st.integers(-20, 10)
)


@given(rows=st.lists(st.tuples(st.sampled_from(Side), AMOUNTS, AMOUNTS, AMOUNTS), max_size=12))
@settings(suppress_health_check=EVERYTHING)
def test_fill_that_fits_breaks_no_invariant_of_the_fold(make, rows):
    position, booked = flat_position("ABC/USD"), []
    for n, (side, qty, cost, fee) in enumerate(rows):
        fill = evolve(make.fill(f"E-{n}", side=side), qty=qty, cost=cost, fee_qty=fee)
        if is_exact(position, fill, Decimal(0)):
            position = apply_fill(position, fill)
            booked.append(fill)

    with localcontext(prec=80):
        assert position.qty == sum((balance_deltas(fill)[0] for fill in booked), Decimal(0))
        flows = sum((balance_deltas(fill)[1] for fill in booked), Decimal(0))
        assert flows == position.realized_quote - position.cost_quote


@pytest.mark.parametrize(
    ("cost", "fits"),
    [
        ("1E+14", True),
        ("1E+15", False),
        ("100.000000000000000000000000000000", True),
        ("1.000000000000000000000001", True),
        ("100.0000000000000000000000001", False),
    ],
)
def test_money_fits_while_its_places_are_fewer_than_can_be_counted(make, cost, fits):
    fill = evolve(make.fill(), cost=Decimal(cost), fee_qty=Decimal(0))

    assert fits is is_exact(flat_position("ABC/USD"), fill, Decimal(0))
