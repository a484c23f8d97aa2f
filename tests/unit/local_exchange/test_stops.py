"""Stops that trail, stops at an offset, and what else holds for untriggered orders."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.matching import pricing
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder, Price
from krakenbot.adapters.local_exchange.matching.venue import Refusal
from krakenbot.adapters.local_exchange.protocol.rest_private import PrivateRest
from krakenbot.adapters.local_exchange.protocol.rest_public import RestError
from krakenbot.adapters.local_exchange.protocol.session import Session

SECOND = 1_000_000_000


def trade_at(desk, ticks: int) -> None:
    """Print one trade at a price, whatever rests; leaves the book as it was."""
    number = desk.market.place("sell", ticks, 100)
    assert number is not None
    desk.market.take("buy", 100)


def trail(desk, side: str = "sell", distance: str = "5", kind: str = "quote", **fields: Any) -> Any:
    return desk.order(
        desk.alice,
        side,
        "0.5",
        fields.pop("price", None),
        order_type=fields.pop("order_type", "trailing-stop"),
        trigger_price=distance,
        trigger_price_type=kind,
        **fields,
    )


@pytest.fixture
def traded(desk):
    trade_at(desk, 1000)
    return desk


def test_a_trailing_sale_follows_the_peak_and_never_falls(traded):
    order = trail(traded)
    seen = [order.trigger_ticks]
    for ticks in (1020, 1010, 1030, 985):
        trade_at(traded, ticks)
        seen.append(order.trigger_ticks)
        if order.is_triggered:
            break

    assert [950, 970, 970, 980, 980] == seen
    assert not order.is_triggered
    assert order.peak_milliticks == 1_030_000


def test_a_trailing_sale_fires_when_the_market_reverts_by_its_distance(traded):
    order = trail(traded)
    trade_at(traded, 1030)
    traded.market.place("buy", 970, 20_000)
    trade_at(traded, 985)
    before = order.is_triggered
    trade_at(traded, 980)

    assert (before, order.is_triggered, order.status) == (False, True, "filled")
    assert {fill.price_ticks for fill in traded.alice.fills} == {970}


def test_a_trailing_purchase_follows_the_low_and_fires_on_a_rise(traded):
    order = trail(traded, side="buy")
    trade_at(traded, 900)
    after_fall = order.trigger_ticks
    held = traded.alice.held("USD")
    traded.market.place("sell", 960, 20_000)
    trade_at(traded, 950)

    assert after_fall == 950
    assert held == Decimal("47.69000")
    assert (order.is_triggered, order.status) == (True, "filled")


def test_a_distance_in_percent_rounds_towards_the_market_as_recorded(traded):
    trade_at(traded, 1005)
    order = trail(traded, distance="1", kind="pct")

    # 1005 less 1 % is 994.95 ticks, and the grid has 995: the recorded stop of SUI/USD rounds up as well.
    assert order.trigger_ticks == 995


def test_every_print_of_a_sweep_counts_for_the_peak(traded):
    order = trail(traded)
    for ticks in (1020, 1040):
        traded.market.place("buy", ticks, 100)
    traded.market.take("sell", 200)

    # The sweep printed 1040, then 1020: the peak is the first print, and the last one is 2.0 below it.
    assert (order.peak_milliticks, order.trigger_ticks, order.is_triggered) == (1_040_000, 990, False)


def test_a_stop_that_a_sweep_passes_fires_even_when_the_last_print_is_back(traded):
    order = traded.order(traded.alice, "buy", "0.1", order_type="stop-loss", trigger_price="103.0")
    traded.market.place("sell", 1100, 5000)
    traded.market.place("buy", 1030, 100)
    traded.market.place("buy", 1000, 100)
    traded.market.take("sell", 200)

    assert order.is_triggered


def test_an_index_trailing_stop_follows_the_index_alone(desk, still_flow):
    desk.venue.open(still_flow, desk.start_ns)
    desk.market.place("buy", 995, 10_000)
    desk.market.place("sell", 1005, 10_000)
    desk.venue.advance(desk.start_ns + SECOND)
    order = trail(desk, trigger_reference="index")
    desk.market.take("buy", 100)
    after_print = order.peak_milliticks
    desk.market.place("buy", 1000, 10_000)
    desk.venue.advance(desk.start_ns + 60 * SECOND)

    assert after_print == 1_000_000
    assert order.peak_milliticks == desk.market.index_milliticks > after_print
    assert not order.is_triggered


def test_a_trailing_limit_keeps_its_offset_from_the_trigger(traded):
    order = trail(traded, price="-1", limit_price_type="quote", order_type="trailing-stop-limit")
    placed = order.limit_ticks
    trade_at(traded, 1030)
    moved = order.limit_ticks
    trade_at(traded, 980)

    assert (placed, moved) == (940, 970)
    assert order.resting is not None
    assert order.resting.price_ticks == 970


@pytest.mark.parametrize(
    ("distance", "kind", "error"),
    [
        ("5", "static", "EGeneral:Invalid arguments:triggers.price_type"),
        ("-5", "quote", "EOrder:Invalid price"),
        ("0", "pct", "EOrder:Invalid price"),
        ("100", "pct", "EOrder:Invalid price"),
        ("100", "quote", "EOrder:Invalid price"),
        ("1e999999", "pct", "EOrder:Invalid price"),
        ("0.00001", "pct", "EOrder:Invalid price"),
        ("0.01", "quote", "EOrder:Invalid price"),
    ],
)
def test_a_distance_that_makes_no_sense_is_refused(traded, distance, kind, error):
    assert Refusal(error=error) == trail(traded, distance=distance, kind=kind)


def test_a_trailing_stop_needs_a_price_to_trail(desk):
    assert Refusal(error="EOrder:Invalid price") == trail(desk)


@pytest.mark.parametrize(
    ("kind", "value", "price_type", "ticks"),
    [
        ("stop-loss", "-10", "pct", 900),
        ("stop-loss", "-7.2", "quote", 930),
        ("take-profit", "10", "pct", 1100),
        ("take-profit", "2.7", "quote", 1025),
    ],
)
def test_a_trigger_may_be_an_offset_from_the_reference(traded, kind, value, price_type, ticks):
    order = traded.order(
        traded.alice, "sell", "0.5", order_type=kind, trigger_price=value, trigger_price_type=price_type
    )

    assert ticks == order.trigger_ticks


def test_the_distance_can_be_amended_while_it_waits(traded):
    order = trail(traded)
    trade_at(traded, 1030)
    traded.venue.amend_order(traded.alice, AmendRequest(order_id=order.order_id, trigger_price=Decimal(2)))
    in_quote = order.trigger_ticks
    traded.venue.amend_order(
        traded.alice, AmendRequest(order_id=order.order_id, trigger_price=Decimal(10), trigger_price_type="pct")
    )

    # 10 % below the peak of 1030 is 927, and the grid has 930.
    assert (in_quote, order.trigger_ticks) == (1010, 930)


def test_the_quantity_of_a_trailing_stop_can_be_amended_alone(traded):
    order = trail(traded)
    trade_at(traded, 1030)
    traded.venue.amend_order(traded.alice, AmendRequest(order_id=order.order_id, qty=Decimal("0.4")))

    assert (order.qty_lots, order.trigger_ticks) == (4000, 980)


def test_an_amended_trigger_that_is_reached_fires_at_once(traded):
    order = traded.order(traded.alice, "sell", "0.5", "90.0", order_type="stop-loss-limit", trigger_price="95.0")
    traded.venue.amend_order(traded.alice, AmendRequest(order_id=order.order_id, trigger_price=Decimal("100.5")))

    assert order.is_triggered
    assert order.resting is not None


def test_a_trigger_that_fired_can_no_longer_be_amended(traded):
    order = traded.order(traded.alice, "sell", "0.5", "120.0", order_type="stop-loss-limit", trigger_price="105.0")
    outcome = traded.venue.amend_order(traded.alice, AmendRequest(order_id=order.order_id, trigger_price=Decimal(90)))

    assert Refusal(error="EGeneral:Invalid arguments:triggers") == outcome


def test_an_untriggered_stop_expires_at_its_time(traded):
    order = trail(traded, time_in_force="gtd", expire_at_ns=traded.start_ns + SECOND)
    traded.venue.advance(traded.start_ns + SECOND)
    trade_at(traded, 900)

    assert (order.status, order.is_triggered) == ("expired", False)
    assert not traded.market.stops
    assert traded.alice.holds() == {}


def test_expiry_after_a_partial_fill_keeps_the_fill(desk):
    order = desk.order(desk.alice, "buy", "0.5", "100.0", time_in_force="gtd", expire_at_ns=desk.start_ns + SECOND)
    desk.market.take("sell", 2000)
    desk.venue.advance(desk.start_ns + SECOND)
    desk.market.take("sell", 2000)

    assert (order.status, order.filled_lots) == ("expired", 2000)
    assert desk.alice.holds() == {}
    assert desk.alice.balance("ABC") == Decimal("10.2")


def test_a_triggered_stop_fills_in_parts_and_its_rest_ends(traded):
    order = trail(traded)
    traded.market.place("buy", 950, 2000)
    traded.market.place("sell", 955, 100)
    traded.market.take("sell", 100)

    assert (order.status, order.filled_lots, order.reason) == ("canceled", 1900, "No liquidity")


@pytest.mark.parametrize("kind", ["stop-loss-limit", "take-profit-limit", "trailing-stop-limit"])
def test_post_only_is_not_for_stops(traded, kind):
    trailing = kind.startswith("trailing")
    outcome = traded.order(
        traded.alice,
        "sell",
        "0.5",
        "1" if trailing else "100.0",
        order_type=kind,
        trigger_price="5",
        trigger_price_type="quote" if trailing else "static",
        limit_price_type="quote" if trailing else "static",
        post_only=True,
    )

    assert Refusal(error="EGeneral:Invalid arguments:post_only") == outcome


def test_an_amendment_may_not_make_a_waiting_stop_post_only(traded):
    order = traded.order(
        traded.alice, "sell", "0.5", "89.0", order_type="stop-loss-limit", trigger_price="90.0", time_in_force="gtc"
    )
    request = AmendRequest(order_id=order.order_id, limit_price=Decimal("88.0"), post_only=True)
    outcome = traded.venue.amend_order(traded.alice, request)

    assert Refusal(error="EGeneral:Invalid arguments:post_only") == outcome
    assert (890, False) == (order.limit_ticks, order.post_only)


def test_fill_or_kill_takes_all_or_nothing(desk):
    desk.market.place("sell", 1000, 3000)
    short = desk.order(desk.alice, "buy", "0.5", "100.0", time_in_force="fok")
    desk.market.place("sell", 1000, 2000)
    whole = desk.order(desk.alice, "buy", "0.5", "100.0", time_in_force="fok")

    assert (short.status, short.filled_lots) == ("canceled", 0)
    assert (whole.status, whole.filled_lots) == ("filled", 5000)


@pytest.mark.parametrize(("policy", "status"), [("cancel_newest", "canceled"), ("cancel_oldest", "filled")])
def test_fill_or_kill_does_not_count_on_its_own_orders(desk, policy, status):
    desk.order(desk.alice, "sell", "0.5", "100.0")
    desk.market.place("sell", 1000, 5000)
    order = desk.order(desk.alice, "buy", "0.5", "100.0", time_in_force="fok", stp_type=policy)

    assert (status, 5000 if status == "filled" else 0) == (order.status, order.filled_lots)


def test_rows_of_a_trailing_stop_show_distance_peak_and_price(traded, make_frames):
    frames = make_frames()
    traded.exchange.private.read_executions(
        frames, traded.alice, snap_orders=True, snap_trades=False, order_status=True
    )
    frames.take()
    trail(traded, distance="1", kind="pct")
    pending, _new = (frame["data"][0] for frame in frames.take())
    traded.market.place("buy", 900, 20_000)
    trade_at(traded, 1030)
    trade_at(traded, 1015)
    triggered = frames.take()[0]["data"][0]

    assert pending["order_type"] == "trailing-stop"
    assert pending["triggers"] == {
        "price": 1,
        "price_type": "pct",
        "reference": "last",
        "status": "untriggered",
        "actual_price": Decimal("99.0"),
        "last_price": Decimal("100.0"),
        "peak_price": Decimal("100.0"),
    }
    shown = triggered["triggers"]
    assert ("triggered", Decimal("102.0"), Decimal("103.0"), Decimal("101.5")) == tuple(
        shown[name] for name in ("status", "actual_price", "peak_price", "last_price")
    )


def ws_add(desk: Any, frames: Any, **params: Any) -> Any:
    session = Session(desk.exchange, "private", frames)
    params = {"symbol": desk.symbol, "side": "sell", "order_qty": 0.5, "token": desk.token(desk.alice)} | params
    now_ns = desk.venue.now_ns
    frames.take()
    session.receive(json.dumps({"method": "add_order", "params": params}), now_ns, now_ns)
    (reply,) = frames.take()
    return reply


@pytest.mark.parametrize(
    ("params", "trigger", "limit"),
    [
        ({"order_type": "trailing-stop", "triggers": {"price": 1.5, "price_type": "pct"}}, 985, None),
        ({"order_type": "trailing-stop", "triggers": {"price": 5, "price_type": "quote"}}, 950, None),
        (
            {
                "order_type": "trailing-stop-limit",
                "limit_price": -1,
                "triggers": {"price": 5, "price_type": "quote"},
            },
            950,
            940,
        ),
        (
            {
                "order_type": "trailing-stop-limit",
                "limit_price": 0,
                "limit_price_type": "pct",
                "triggers": {"price": 5, "price_type": "quote"},
            },
            950,
            950,
        ),
        ({"order_type": "stop-loss", "triggers": {"price": -10, "price_type": "pct"}}, 900, None),
    ],
)
def test_ws_takes_distances_and_offsets(traded, make_frames, params, trigger, limit):
    reply = ws_add(traded, make_frames(), **params)

    assert reply["success"], reply
    order = traded.alice.orders[reply["result"]["order_id"]]
    assert (trigger, limit) == (order.trigger_ticks, order.limit_ticks)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        (
            {"order_type": "trailing-stop", "triggers": {"price": 5}},
            "EGeneral:Invalid arguments:triggers.price_type",
        ),
        (
            {"order_type": "trailing-stop", "triggers": {"price": 5, "price_type": "x"}},
            "EGeneral:Invalid arguments:triggers.price_type",
        ),
        (
            {"order_type": "limit", "limit_price": 5, "limit_price_type": "pct"},
            "EGeneral:Invalid arguments:limit_price_type",
        ),
        ({"order_type": "trailing-stop", "triggers": {"price": "5"}}, "Price field must be a number_float"),
    ],
)
def test_ws_refuses_wrong_price_types(traded, make_frames, params, error):
    assert error == ws_add(traded, make_frames(), **params)["error"]


def rest_add(desk: Any, **params: str) -> Any:
    rest = PrivateRest(desk.exchange)
    full = {"pair": "ABCUSD", "volume": "0.5"} | params
    result = rest.answer("AddOrder", desk.keys.keys["alice"], full)
    return desk.alice.orders[result["txid"][0]], result["descr"]["order"]


@pytest.mark.parametrize(
    ("params", "trigger", "limit", "text"),
    [
        (
            {"type": "sell", "ordertype": "trailing-stop", "price": "+1%"},
            990,
            None,
            "sell 0.5000 ABCUSD @ trailing stop +1.0000%",
        ),
        (
            {"type": "sell", "ordertype": "trailing-stop", "price": "+5", "price2": "0"},
            950,
            None,
            "sell 0.5000 ABCUSD @ trailing stop +5.0",
        ),
        (
            {"type": "sell", "ordertype": "trailing-stop-limit", "price": "+5", "price2": "-1"},
            950,
            940,
            "sell 0.5000 ABCUSD @ trailing stop +5.0 -> limit -1.0",
        ),
        (
            {"type": "sell", "ordertype": "stop-loss", "price": "-10%"},
            900,
            None,
            "sell 0.5000 ABCUSD @ stop loss -10.0000%",
        ),
        (
            {"type": "sell", "ordertype": "stop-loss", "price": "#10"},
            900,
            None,
            "sell 0.5000 ABCUSD @ stop loss -10.0",
        ),
        (
            {"type": "sell", "ordertype": "take-profit", "price": "#10"},
            1100,
            None,
            "sell 0.5000 ABCUSD @ take profit +10.0",
        ),
        (
            {"type": "buy", "ordertype": "stop-loss-limit", "price": "+5", "price2": "+6"},
            1050,
            1060,
            "buy 0.5000 ABCUSD @ stop loss +5.0 -> limit 106.0",
        ),
        ({"type": "buy", "ordertype": "limit", "price": "-1%"}, None, 990, "buy 0.5000 ABCUSD @ limit 99.0"),
        ({"type": "sell", "ordertype": "limit", "price": "#1.2"}, None, 1015, "sell 0.5000 ABCUSD @ limit 101.5"),
    ],
)
def test_rest_reads_relative_prices(traded, params, trigger, limit, text):
    order, described = rest_add(traded, **params)

    assert (trigger, limit) == (order.trigger_ticks, order.limit_ticks)
    assert text == described


@pytest.mark.parametrize("price", ["+", "%", "5%", "#", "+-5", "-5", "#5", "5", "+1e5000", "+NaN", "+²", "+100%"])
def test_rest_refuses_a_trailing_distance_that_is_none(traded, price):
    with pytest.raises(RestError, match=r"EGeneral:Invalid arguments:price|EOrder:Invalid price"):
        rest_add(traded, type="sell", ordertype="trailing-stop", price=price)

    assert not traded.alice.orders


def test_rest_shows_trigger_and_peak_of_a_trailing_stop(traded):
    order, _text = rest_add(traded, type="sell", ordertype="trailing-stop", price="+1%")
    trade_at(traded, 1100)
    shown = PrivateRest(traded.exchange).answer("OpenOrders", traded.keys.keys["alice"], {})["open"][order.order_id]

    assert isinstance(order, ClientOrder)
    assert ("+1.0000%", "0") == (shown["descr"]["price"], shown["descr"]["price2"])
    assert (Decimal("109.0"), Decimal("110.0")) == (Decimal(shown["stopprice"]), Decimal(shown["limitprice"]))


def test_the_index_moves_by_a_twentieth_of_its_distance_to_the_mid(desk):
    first = [desk.market.place("buy", 900, 1000), desk.market.place("sell", 1100, 1000)]
    desk.market.sample_index()
    indices = [desk.market.index_milliticks]
    for number in first:
        desk.market.cancel(number)
    desk.market.sample_index()
    desk.market.place("buy", 1000, 1000)
    desk.market.place("sell", 1200, 1000)
    for _ in range(2):
        desk.market.sample_index()
        indices.append(desk.market.index_milliticks)

    assert [1_000_000, 1_005_000, 1_009_750] == indices


@pytest.mark.parametrize(("is_buy", "limit_ticks"), [(False, 980), (True, 975)])
def test_the_limit_of_a_trailing_stop_is_rounded_to_the_passive_side(desk, is_buy, limit_ticks):
    offset = Price(Decimal("-0.3"), "pct")

    assert limit_ticks == pricing.limit_from_trigger(offset, 980, desk.market.rules, is_buy=is_buy)
