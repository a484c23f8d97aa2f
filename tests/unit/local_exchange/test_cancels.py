"""Cancelling everything, the dead man's switch over WS and REST, and figures off the grid."""

from __future__ import annotations

import json
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.matching.operator import Operator
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder
from krakenbot.adapters.local_exchange.matching.venue import Refusal
from krakenbot.adapters.local_exchange.protocol.rest_private import PrivateRest
from krakenbot.adapters.local_exchange.protocol.rest_public import RestError
from krakenbot.adapters.local_exchange.protocol.session import Session

SECOND = 1_000_000_000


@pytest.fixture
def send(desk, make_frames):
    frames = make_frames()
    session = Session(desk.exchange, "private", frames)

    def one(method: str, **params: Any) -> Any:
        frames.take()
        request = {"method": method, "params": params | {"token": desk.token(desk.alice)}}
        session.receive(json.dumps(request), desk.venue.now_ns, desk.venue.now_ns)
        (reply,) = frames.take()
        return reply

    return one


@pytest.fixture
def rest(desk):
    def call(endpoint: str, **params: str) -> Any:
        return PrivateRest(desk.exchange).answer(endpoint, desk.keys.keys["alice"], params)

    return call


def test_cancel_all_takes_resting_and_untriggered_orders_of_one_account(desk, send, rest):
    desk.order(desk.alice, "buy", "0.1", "90.0")
    desk.order(desk.alice, "sell", "0.1", order_type="stop-loss", trigger_price="80.0")
    other = desk.order(desk.bob, "buy", "0.1", "90.0")
    first = send("cancel_all")
    second = rest("CancelAll")

    assert {"count": 2} == first["result"]
    assert {"count": 0} == second
    assert not desk.market.stops
    assert other.status == "new"


def test_the_switch_is_one_for_the_account_over_ws_and_rest(desk, send, rest):
    order = desk.order(desk.alice, "buy", "0.1", "90.0")
    armed = send("cancel_all_orders_after", timeout=10)["result"]
    disarmed = rest("CancelAllOrdersAfter", timeout="0")
    desk.venue.advance(desk.start_ns + 20 * SECOND)
    after_disarming = order.status
    rest("CancelAllOrdersAfter", timeout="10")
    desk.venue.advance(desk.start_ns + 31 * SECOND)

    assert ("2026-09-21T14:13:20Z", "2026-09-21T14:13:30Z") == (armed["currentTime"], armed["triggerTime"])
    assert disarmed["triggerTime"] == "0"
    assert (after_disarming, order.status) == ("new", "canceled")


def test_a_switch_armed_before_maintenance_fires_when_the_engine_returns(desk, send):
    order = desk.order(desk.alice, "buy", "0.1", "90.0")
    send("cancel_all_orders_after", timeout=5)
    operator = Operator(desk.venue)
    operator.set_system("maintenance")
    refused = send("cancel_all_orders_after", timeout=0)
    desk.venue.advance(desk.start_ns + 100 * SECOND)
    during = order.status
    operator.set_system("online")
    desk.venue.advance(desk.start_ns + 100 * SECOND)
    later = desk.order(desk.alice, "buy", "0.1", "90.0")
    desk.venue.advance(desk.start_ns + 200 * SECOND)

    assert refused["error"] == "EService:Unavailable"
    assert (during, order.status, later.status) == ("new", "canceled", "new")


def test_maintenance_refuses_over_rest_in_the_same_words(desk, rest):
    order = desk.order(desk.alice, "buy", "0.1", "90.0")
    Operator(desk.venue).set_system("maintenance")
    for endpoint, params in (
        ("CancelAll", {}),
        ("CancelOrder", {"txid": order.order_id}),
        ("CancelAllOrdersAfter", {"timeout": "5"}),
        ("AmendOrder", {"txid": order.order_id, "order_qty": "0.2"}),
        ("AddOrder", {"pair": "ABCUSD", "type": "buy", "ordertype": "limit", "price": "90", "volume": "1"}),
    ):
        with pytest.raises(RestError) as caught:
            rest(endpoint, **params)

        assert caught.value.text == "EService:Unavailable"


@pytest.mark.parametrize(("qty", "error"), [("0.5", None), ("0.505", "EGeneral:Invalid arguments:volume")])
def test_a_quantity_must_be_a_multiple_of_its_increment(desk, qty, error):
    Operator(desk.venue).change_rules(desk.symbol, qty_increment_lots=100)
    outcome = desk.order(desk.alice, "buy", qty, "90.0")

    assert error == (outcome.error if isinstance(outcome, Refusal) else None)


@pytest.mark.parametrize(("resting", "error"), [(None, None), ("10.0", "EOrder:Cost minimum not met"), ("100.0", None)])
def test_a_market_order_meets_the_cost_minimum_at_the_best_price(desk, resting, error):
    if resting is not None:
        desk.order(desk.bob, "buy", "1", resting)
    outcome = desk.order(desk.alice, "sell", "0.01", order_type="market")

    assert error == (outcome.error if isinstance(outcome, Refusal) else None)
    assert error is not None or isinstance(outcome, ClientOrder)


def test_rest_cancels_by_userref_only_orders_that_have_it(desk, rest):
    plain = desk.order(desk.alice, "buy", "0.1", "90.0")
    named = desk.order(desk.alice, "buy", "0.1", "90.0", order_userref=7)
    with pytest.raises(RestError, match="EOrder:Unknown order"):
        rest("CancelOrder", txid="None")

    assert {"count": 1} == rest("CancelOrder", txid="7")
    assert ["new", "canceled"] == [plain.status, named.status]


def test_rest_counts_only_what_it_cancelled(desk, rest):
    orders = [desk.order(desk.alice, "buy", "0.1", "90.0", order_userref=7) for _ in range(25)]
    answer = rest("CancelOrder", txid="7")
    cancelled = sum(order.status == "canceled" for order in orders)
    with pytest.raises(RestError, match="EOrder:Rate limit exceeded"):
        rest("CancelOrder", txid="7")

    assert 0 < cancelled < 25
    assert {"count": cancelled} == answer


def test_rest_says_that_a_maintenance_cancels_nothing(desk, rest):
    order = desk.order(desk.alice, "buy", "0.1", "90.0", order_userref=7)
    Operator(desk.venue).set_system("maintenance")
    with pytest.raises(RestError, match="EService:Unavailable"):
        rest("CancelOrder", txid="7")

    assert "new" == order.status
