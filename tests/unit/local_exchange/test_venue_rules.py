"""Each switch of an unconfirmed rule, and the list of what is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_type_hints

import attrs
import pytest

from krakenbot.adapters.local_exchange.matching.accounts import StopHolds
from krakenbot.adapters.local_exchange.matching.operator import Operator
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder
from krakenbot.adapters.local_exchange.matching.settings import RULES, VenueSettings, parse_rules
from krakenbot.adapters.local_exchange.matching.venue import Refusal
from krakenbot.adapters.local_exchange.protocol import not_offered
from krakenbot.adapters.local_exchange.protocol.rest_private import PrivateRest
from krakenbot.adapters.local_exchange.protocol.rest_public import RestError
from krakenbot.adapters.local_exchange.protocol.session import Session

SECOND = 1_000_000_000
DOCS = Path(__file__).parents[3] / "docs" / "exchange_differences.md"


def test_every_switch_lists_the_values_of_its_setting_with_the_default_first():
    hints = get_type_hints(VenueSettings)
    for name, rule in RULES.items():
        values = tuple(StopHolds) if name == "stop_holds" else get_args(hints[name])

        assert values == rule.values
        assert attrs.fields_dict(VenueSettings)[name].default == rule.values[0]


def test_every_switch_and_every_refusal_is_documented():
    text = DOCS.read_text()
    refused = [
        *(*not_offered.WS_METHODS, *not_offered.WS_CHANNELS, *not_offered.REST_ENDPOINTS, *not_offered.ORDER_TYPES),
        *(*not_offered.WS_ADD_FIELDS, *not_offered.WS_ADD_FLAGS, *not_offered.REST_FIELDS, "settle-position"),
    ]

    assert [name for name in RULES if f"| `{name}` |" not in text] == []
    assert [name for name in refused if f"`{name}`" not in text] == []
    assert [value for rule in RULES.values() for value in rule.values if f"`{value}`" not in text] == []


def test_rules_are_read_from_the_command_line():
    chosen = parse_rules(["amend_queue=always_back", "stop_holds=shared"])

    assert {"amend_queue": "always_back", "stop_holds": StopHolds.SHARED} == chosen
    assert VenueSettings(**chosen).stop_holds is StopHolds.SHARED


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["amend=x"], "rules are amend_queue"),
        (["amend_queue"], "amend_queue is one of decrease_keeps, always_back"),
        (["amend_queue=no"], "amend_queue is one of"),
        (["amend_queue=always_back", "amend_queue=always_back"], "given twice"),
        (["seed=5"], "rules are"),
    ],
)
def test_a_wrong_rule_names_what_is_right(texts, message):
    with pytest.raises(ValueError, match=message):
        parse_rules(texts)


@pytest.mark.parametrize(("rule", "filled"), [("decrease_keeps", 1000), ("always_back", 0)])
def test_an_amendment_to_less_and_the_queue(make_desk, rule, filled):
    desk = make_desk(amend_queue=rule)
    mine = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.market.place("buy", 1000, 1000)
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=mine.order_id, qty=Decimal("0.4")))
    desk.market.take("sell", 1000)

    assert filled == mine.filled_lots
    assert desk.market.size_at("buy", 1000) == 4000


@pytest.mark.parametrize(
    ("rule", "kinds"),
    [
        ("trade_before_filled", ["pending_new", "new", "trade", "trade", "filled"]),
        ("filled_before_trade", ["pending_new", "new", "trade", "filled", "trade"]),
    ],
)
def test_the_order_of_rows_in_a_burst(make_desk, make_frames, rule, kinds):
    desk = make_desk(burst_order=rule)
    frames = make_frames()
    desk.exchange.private.read_executions(frames, desk.alice, snap_orders=False, snap_trades=False, order_status=True)
    for ticks in (1000, 1005):
        desk.market.place("sell", ticks, 500)
    frames.take()
    desk.order(desk.alice, "buy", "0.1", "101.0")
    sent = frames.take()

    assert kinds == [frame["data"][0]["exec_type"] for frame in sent]
    assert [2, 3, 4, 5, 6] == [frame["sequence"] for frame in sent]
    trades = [frame["data"][0] for frame in sent if frame["data"][0]["exec_type"] == "trade"]
    assert [Decimal("0.0500"), Decimal("0.1000")] == [row["cum_qty"] for row in trades]


@pytest.mark.parametrize(
    ("rule", "error"),
    [("distinct", "EGeneral:Invalid arguments:cl_ord_id"), ("generic", "EGeneral:Invalid arguments")],
)
def test_the_words_for_a_duplicate_client_order_id(make_desk, rule, error):
    desk = make_desk(cl_ord_id_error=rule)
    desk.order(desk.alice, "buy", "0.1", "100.0", cl_ord_id="mine")

    assert Refusal(error=error) == desk.order(desk.alice, "buy", "0.1", "100.0", cl_ord_id="mine")


@pytest.mark.parametrize("rule", ["allowed", "refused"])
def test_whether_a_post_only_order_may_be_gtd(make_desk, rule):
    desk = make_desk(gtd_post_only=rule)
    fields = {"time_in_force": "gtd", "expire_at_ns": desk.start_ns + SECOND}
    both = desk.order(desk.alice, "buy", "0.1", "100.0", post_only=True, **fields)
    plain = desk.order(desk.alice, "buy", "0.1", "100.0", **fields)

    assert (rule == "allowed") == isinstance(both, ClientOrder)
    assert isinstance(plain, ClientOrder)


@pytest.mark.parametrize(
    ("rule", "errors"),
    [
        ("analogous", ["EService:Market in limit_only mode", "EService:Market in reduce_only mode"]),
        ("generic", ["EGeneral:Invalid arguments:ordertype", "EGeneral:Permission denied"]),
    ],
)
def test_the_words_of_rare_modes(make_desk, rule, errors):
    desk = make_desk(mode_errors=rule)
    operator = Operator(desk.venue)
    operator.set_status(desk.symbol, "limit_only")
    market = desk.order(desk.alice, "sell", "0.1", order_type="market")
    operator.set_status(desk.symbol, "reduce_only")
    buy = desk.order(desk.alice, "buy", "0.1", "90.0")

    assert errors == [market.error, buy.error]


def ws(desk: Any, frames: Any, method: str, params: dict[str, Any]) -> Any:
    frames.take()
    session = Session(desk.exchange, "private", frames)
    session.receive(
        json.dumps({"method": method, "params": params | {"token": desk.token(desk.alice)}}),
        desk.venue.now_ns,
        desk.venue.now_ns,
    )
    (reply,) = frames.take()
    return reply


ORDER = {"symbol": "ABC/USD", "side": "buy", "order_type": "limit", "order_qty": 1, "limit_price": 100}


@pytest.mark.parametrize("method", not_offered.WS_METHODS)
def test_ws_methods_that_are_not_offered(desk, make_frames, method):
    assert not_offered.UNKNOWN_METHOD == ws(desk, make_frames(), method, {})["error"]


@pytest.mark.parametrize("channel", not_offered.WS_CHANNELS)
def test_ws_channels_that_are_not_offered(desk, make_frames, channel):
    reply = ws(desk, make_frames(), "subscribe", {"channel": channel, "symbol": ["ABC/USD"]})

    assert not_offered.UNSUPPORTED_EVENT == reply["error"]


@pytest.mark.parametrize("kind", not_offered.ORDER_TYPES)
def test_order_types_that_are_not_offered(desk, make_frames, kind):
    over_ws = ws(desk, make_frames(), "add_order", ORDER | {"order_type": kind})
    with pytest.raises(RestError) as over_rest:
        rest(desk, "AddOrder", ordertype=kind, type="buy", volume="1", pair="ABCUSD")

    assert [not_offered.invalid("ordertype")] * 2 == [over_ws["error"], over_rest.value.text]


@pytest.mark.parametrize("name", [*not_offered.WS_ADD_FIELDS, *not_offered.WS_ADD_FLAGS])
def test_fields_of_an_order_that_are_not_offered(desk, make_frames, name):
    value: Any = {"cash_order_qty": 5, "conditional": {}}.get(name, True)
    reply = ws(desk, make_frames(), "add_order", ORDER | {name: value})

    assert not_offered.WS_ADD_FLAGS.get(name, not_offered.invalid(name)) == reply["error"]
    assert not desk.alice.orders


@pytest.mark.parametrize("name", not_offered.WS_AMEND_FIELDS)
def test_fields_of_an_amendment_that_are_not_offered(desk, make_frames, name):
    reply = ws(desk, make_frames(), "amend_order", {"order_id": "O", name: 1})

    assert not_offered.invalid(name) == reply["error"]


def rest(desk: Any, endpoint: str, **params: str) -> Any:
    return PrivateRest(desk.exchange).answer(endpoint, desk.keys.keys["alice"], params)


@pytest.mark.parametrize("endpoint", not_offered.REST_ENDPOINTS)
def test_rest_endpoints_that_are_not_offered(desk, endpoint):
    with pytest.raises(RestError) as caught:
        rest(desk, endpoint)

    assert not_offered.UNKNOWN_METHOD == caught.value.text


@pytest.mark.parametrize("name", [*not_offered.REST_FIELDS, *not_offered.REST_FLAGS])
def test_rest_fields_that_are_not_offered(desk, name):
    order = {"pair": "ABCUSD", "type": "buy", "ordertype": "limit", "price": "100", "volume": "1"}
    with pytest.raises(RestError) as caught:
        rest(desk, "AddOrder", **order, **{name: "true"})

    assert not_offered.REST_FLAGS.get(name, not_offered.invalid(name)) == caught.value.text


def test_positions_cannot_be_settled(desk, make_frames):
    over_ws = ws(desk, make_frames(), "add_order", ORDER | {"order_type": "settle-position"})
    with pytest.raises(RestError) as over_rest:
        rest(desk, "AddOrder", ordertype="settle-position", type="buy", volume="1", pair="ABCUSD")

    assert [not_offered.UNKNOWN_POSITION] * 2 == [over_ws["error"], over_rest.value.text]


def test_the_transaction_count_comes_only_to_those_who_ask(desk, make_frames):
    plain, counting = make_frames(), make_frames()
    flags = {"snap_orders": False, "snap_trades": False, "order_status": True}
    desk.exchange.private.read_executions(plain, desk.alice, **flags)
    desk.exchange.private.read_executions(counting, desk.alice, **flags, rate_counter=True)
    order = desk.order(desk.alice, "buy", "0.1", "100.0")
    desk.venue.cancel_order(desk.alice, order.order_id, None)

    assert [1, 1, 9] == [frame["data"][0]["ratecount"] for frame in counting.take() if frame["type"] == "update"]
    assert not any("ratecount" in row for frame in plain.take() for row in frame["data"])
