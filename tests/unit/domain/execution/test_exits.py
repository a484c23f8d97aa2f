"""The pure rules of exits: first rule wins, never looser, never more than the position."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.domain.decision.plan import ExitKind, ExitProfile, StopTrigger
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.execution.exits import (
    AmendStop,
    ExitAtMarket,
    ExitSettings,
    Hold,
    Holding,
    PlaceStop,
    RestTakeProfit,
    Touch,
    check_profile,
    markout_bps,
    next_step,
    profile_from_record,
    profile_to_record,
    protection_of,
    sellable_qty,
    stop_price,
)
from krakenbot.domain.execution.order import OrderRole, OrderState, OrderType
from krakenbot.domain.execution.position import Protection, flat_position
from krakenbot.domain.values import Side

PROFILE = ExitProfile(
    stop_distance_bps=100.0,
    take_profit_bps=100.0,
    trail_distance_bps=None,
    time_stop_s=600.0,
    stop_trigger=StopTrigger.LAST,
)
SETTINGS = ExitSettings()
LIMITS = [HealthCheck.function_scoped_fixture]


def stop_of(make, qty="1", trigger="99.0", state=OrderState.OPEN):
    return make.order(
        cl_ord_id="kbs000000000002",
        side=Side.SELL,
        role=OrderRole.PROTECTIVE_STOP,
        order_type=OrderType.STOP_LOSS,
        qty=Decimal(qty),
        limit_price=None,
        trigger_price=Decimal(trigger),
        state=state,
    )


def holding_of(make, qty="1", **changes):
    holding = Holding(
        at=make.at,
        instrument=make.instrument,
        position=evolve(flat_position("ABC/USD"), qty=Decimal(qty), cost_quote=Decimal(qty) * 100),
        unsold_qty=Decimal(qty),
        profile=PROFILE,
        entry_price=Decimal("100.0"),
        opened_at=make.at,
        entry_is_live=False,
        touch=Touch(bid=Decimal("100.0"), ask=Decimal("100.2"), age_s=0.1),
    )
    return evolve(holding, **changes)


def test_position_without_a_stop_gets_one_for_all_of_it(make):
    assert PlaceStop(qty=Decimal(1), trigger_price=Decimal("99.0")) == next_step(holding_of(make), SETTINGS)


def test_dust_is_flat_by_name_and_a_growing_fill_is_unprotectable(make):
    assert Protection.FLAT is protection_of(holding_of(make, "0.01"), SETTINGS)[0]
    assert Protection.UNPROTECTABLE is protection_of(holding_of(make, "0.01", entry_is_live=True), SETTINGS)[0]
    assert isinstance(next_step(holding_of(make, "0.01"), SETTINGS), Hold)


def test_stop_for_a_part_of_the_position_is_bare(make):
    assert (Protection.BARE, Decimal("0.5")) == protection_of(holding_of(make, stop=stop_of(make, "0.5")), SETTINGS)
    assert Protection.PROTECTED is protection_of(holding_of(make, stop=stop_of(make)), SETTINGS)[0]


@pytest.mark.parametrize("state", [OrderState.UNKNOWN, OrderState.SUBMITTED, OrderState.PENDING_CANCEL])
def test_stop_that_is_not_known_to_stand_protects_nothing(make, state):
    assert Protection.BARE is protection_of(holding_of(make, stop=stop_of(make, state=state)), SETTINGS)[0]


def test_larger_position_amends_the_total_after_the_interval(make):
    stop = stop_of(make, "0.5")
    late, early = make.at - timedelta(seconds=2), make.at - timedelta(seconds=1)

    assert AmendStop(qty=Decimal(1), trigger_price=Decimal("99.0")) == next_step(
        holding_of(make, stop=stop, stop_changed_at=late), SETTINGS
    )
    assert isinstance(next_step(holding_of(make, stop=stop, stop_changed_at=early), SETTINGS), Hold)


def test_amended_total_counts_what_the_stop_has_sold(make):
    stop = evolve(stop_of(make, "2"), cum_qty=Decimal("0.5"), state=OrderState.PARTIALLY_FILLED)

    assert AmendStop(qty=Decimal("1.5"), trigger_price=Decimal("99.0")) == next_step(
        holding_of(make, stop=stop), SETTINGS
    )


def test_bare_for_too_long_leaves_at_market(make):
    step = next_step(holding_of(make, bare_since=make.at - timedelta(seconds=5)), SETTINGS)

    assert isinstance(step, ExitAtMarket)
    assert ExitKind.PANIC is step.kind


@pytest.mark.parametrize("state", [OrderState.OPEN, OrderState.PENDING_AMEND])
def test_stop_that_no_amend_could_raise_in_time_is_left_for_a_sale(make, state):
    stop = evolve(stop_of(make, "0.5", state=state), state_at=make.at)
    since = {"amend_failing_since": make.at - timedelta(seconds=5), "stop_changed_at": make.at}
    step = next_step(holding_of(make, stop=stop, **since), SETTINGS)

    assert isinstance(step, ExitAtMarket)
    assert ExitKind.PANIC is step.kind
    assert isinstance(next_step(holding_of(make, "0.5", stop=stop, **since), SETTINGS), Hold)
    assert isinstance(
        next_step(evolve(holding_of(make, stop=stop, **since), at=make.at - timedelta(seconds=1)), SETTINGS), Hold
    )


def test_amend_that_was_under_way_before_counts_from_when_the_position_was_bare(make):
    stop = evolve(stop_of(make, "0.5", state=OrderState.PENDING_AMEND), state_at=make.at - timedelta(seconds=9))
    long_bare, just_bare = make.at - timedelta(seconds=5), make.at - timedelta(seconds=4)

    assert isinstance(next_step(holding_of(make, stop=stop, bare_since=long_bare), SETTINGS), ExitAtMarket)
    assert isinstance(next_step(holding_of(make, stop=stop, bare_since=just_bare), SETTINGS), Hold)


def test_time_stop_comes_before_everything_but_dust(make):
    old = make.at - timedelta(seconds=600)
    step = next_step(holding_of(make, stop=stop_of(make), opened_at=old), SETTINGS)

    assert isinstance(step, ExitAtMarket)
    assert ExitKind.TIME_STOP is step.kind
    assert isinstance(next_step(holding_of(make, "0.01", opened_at=old), SETTINGS), Hold)


def test_price_below_the_stop_that_is_missing_leaves_at_once(make):
    touch = Touch(bid=Decimal("98.9"), ask=Decimal("99.1"), age_s=0.1)
    step = next_step(holding_of(make, touch=touch), SETTINGS)

    assert isinstance(step, ExitAtMarket)
    assert ExitKind.STOP_LOSS is step.kind


def test_take_profit_waits_for_target_live_book_and_the_end_of_the_entry(make):
    touch = Touch(bid=Decimal("100.9"), ask=Decimal("101.2"), age_s=0.1)
    ready = holding_of(make, stop=stop_of(make), touch=touch)

    assert RestTakeProfit(qty=Decimal(1), limit_price=Decimal("101.2")) == next_step(ready, SETTINGS)

    for change in (
        {"entry_is_live": True},
        {"touch": evolve(touch, ask=Decimal("100.9"))},
        {"touch": evolve(touch, age_s=0.9)},
        {"touch": None},
        {"take_profit_ended_at": make.at - timedelta(seconds=5)},
    ):
        assert isinstance(next_step(evolve(ready, **change), SETTINGS), Hold)


@given(
    peak=st.decimals("90", "130", places=1),
    floor=st.decimals("80", "120", places=1),
    trigger=st.decimals("80", "120", places=1),
    trail=st.floats(1.0, 500.0),
)
@settings(suppress_health_check=LIMITS)
def test_a_stop_is_never_looser_than_it_was(make, peak, floor, trigger, trail):
    holding = holding_of(
        make,
        stop=stop_of(make, trigger=str(trigger)),
        profile=evolve(PROFILE, trail_distance_bps=trail),
        peak_bid=peak,
        floor_price=floor,
    )

    assert stop_price(holding) >= max(trigger, floor, Decimal("99.0"))


@given(qty=st.decimals("-5", "5", places=6), price=st.decimals("0.1", "200", places=1))
@settings(suppress_health_check=LIMITS)
def test_never_more_is_sold_than_is_held_and_never_less_than_an_order_may(make, qty, price):
    sold = sellable_qty(make.instrument, qty, price)

    assert sold == 0 or (make.instrument.qty_min <= sold <= qty and sold * price >= make.instrument.cost_min)


@pytest.mark.parametrize("name", ["time_stop_s", "stop_distance_bps", "take_profit_bps"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_profile_of_nothing_is_a_configuration_error(name, value):
    with pytest.raises(ConfigError, match=name):
        check_profile(evolve(PROFILE, **{name: value}))


@pytest.mark.parametrize("trail", [None, 40.0])
def test_profile_survives_the_order_row(trail):
    profile = evolve(PROFILE, trail_distance_bps=trail)

    assert profile == profile_from_record({"exit_profile": profile_to_record(profile)})


def test_row_without_a_profile_has_none():
    assert profile_from_record({}) is None


@pytest.mark.parametrize(("side", "expected"), [(Side.BUY, 100.0), (Side.SELL, -100.0)])
def test_markout_is_signed_for_us(side, expected):
    assert expected == markout_bps(Decimal(100), Decimal(101), side)


def test_settings_of_zero_are_refused():
    with pytest.raises(ConfigError, match="tp_rest_s"):
        ExitSettings(tp_rest_s=0.0)
