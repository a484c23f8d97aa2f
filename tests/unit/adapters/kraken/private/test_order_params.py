from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.kraken.order_gateway import add_order_params, amend_order_params
from krakenbot.domain.decision.plan import StopTrigger
from krakenbot.domain.errors import InvariantViolated
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.values import ClOrdId, Side, Symbol, VenueId

NOW = datetime(2026, 11, 1, 12, 0, 0, 123_987, tzinfo=UTC)

ENTRY = Order(
    cl_ord_id=ClOrdId("kbe0a1b2c3d4e5f6g7"),
    venue_id=VenueId("v"),
    symbol=Symbol("BTC/USD"),
    side=Side.BUY,
    role=OrderRole.ENTRY,
    order_type=OrderType.LIMIT,
    qty=Decimal("0.00100000"),
    limit_price=Decimal("80000.1"),
    trigger_price=None,
    trigger=None,
    post_only=True,
    state=OrderState.PENDING_SUBMIT,
    created_at=NOW,
    deadline_at=NOW + timedelta(seconds=2),
    expire_at=NOW + timedelta(seconds=60),
    record={},
)
STOP = evolve(
    ENTRY,
    side=Side.SELL,
    role=OrderRole.PROTECTIVE_STOP,
    order_type=OrderType.STOP_LOSS,
    limit_price=None,
    trigger_price=Decimal(79000),
    trigger=StopTrigger.INDEX,
    post_only=False,
    deadline_at=None,
    expire_at=None,
)


def test_entry_is_post_only_with_lifetime_deadline_and_fees_in_quote() -> None:
    assert {
        "order_type": "limit",
        "side": "buy",
        "symbol": "BTC/USD",
        "order_qty": Decimal("0.00100000"),
        "limit_price": Decimal("80000.1"),
        "post_only": True,
        "time_in_force": "gtd",
        "expire_time": "2026-11-01T12:01:00Z",
        "deadline": "2026-11-01T12:00:02.123Z",
        "cl_ord_id": "kbe0a1b2c3d4e5f6g7",
        "fee_preference": "quote",
    } == add_order_params(ENTRY)


def test_stop_has_its_trigger_and_cancels_our_own_older_order_not_itself() -> None:
    params = add_order_params(STOP)

    assert {"reference": "index", "price": Decimal(79000)} == params["triggers"]
    assert ("stop-loss", "sell", "cancel_oldest", "quote") == (
        params["order_type"],
        params["side"],
        params["stp_type"],
        params["fee_preference"],
    )
    assert {"limit_price", "post_only", "expire_time", "deadline", "time_in_force"}.isdisjoint(params)


def test_market_exit_has_no_price() -> None:
    params = add_order_params(
        evolve(STOP, role=OrderRole.MARKET_EXIT, order_type=OrderType.MARKET, trigger_price=None, trigger=None)
    )

    assert {"order_type", "side", "symbol", "order_qty", "cl_ord_id", "fee_preference", "stp_type"} == set(params)


def test_take_profit_rests_post_only() -> None:
    params = add_order_params(
        evolve(
            STOP,
            role=OrderRole.TAKE_PROFIT,
            order_type=OrderType.LIMIT,
            limit_price=Decimal(81000),
            trigger_price=None,
            trigger=None,
            post_only=True,
        )
    )

    assert (True, Decimal(81000), "cancel_oldest") == (params["post_only"], params["limit_price"], params["stp_type"])


@pytest.mark.parametrize("order", [evolve(ENTRY, limit_price=None), evolve(STOP, trigger_price=None)])
def test_order_without_its_price_is_our_bug(order: Order):
    with pytest.raises(InvariantViolated):
        add_order_params(order)


def test_amend_repeats_post_only_and_states_the_new_total() -> None:
    params = amend_order_params(
        ENTRY,
        qty=Decimal("0.002"),
        limit_price=Decimal(80001),
        trigger_price=None,
        deadline_at=NOW,
    )

    assert {
        "cl_ord_id": "kbe0a1b2c3d4e5f6g7",
        "order_qty": Decimal("0.002"),
        "limit_price": Decimal(80001),
        "post_only": True,
        "deadline": "2026-11-01T12:00:00.123Z",
    } == params


def test_amend_of_a_stop_has_its_trigger_and_no_post_only() -> None:
    params = amend_order_params(
        STOP,
        qty=Decimal(1),
        limit_price=None,
        trigger_price=Decimal(79100),
        deadline_at=None,
    )

    assert {
        "cl_ord_id": "kbe0a1b2c3d4e5f6g7",
        "order_qty": Decimal(1),
        "trigger_price": Decimal(79100),
    } == params


@given(
    st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2090, 1, 1)),  # noqa: DTZ001 - zone is drawn
    st.integers(-12, 12),
)
def test_venue_never_keeps_an_order_longer_than_its_row_says(wall: datetime, offset_h: int):
    at = wall.replace(tzinfo=timezone(timedelta(hours=offset_h)))
    params: dict[str, Any] = add_order_params(evolve(ENTRY, expire_at=at, deadline_at=at))
    expire_at, deadline_at = (datetime.fromisoformat(params[key]) for key in ("expire_time", "deadline"))

    assert at - timedelta(seconds=1) < expire_at <= at
    assert at - timedelta(milliseconds=1) < deadline_at <= at
