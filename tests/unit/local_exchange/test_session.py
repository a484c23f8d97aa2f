"""WS v2 without sockets: shapes, sequences, the venue's words, and whatever a client may send."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.matching.orders import AmendRequest
from krakenbot.adapters.local_exchange.protocol.session import Session


class Client:
    def __init__(self, desk: Any, frames: Any, path: Any, account: Any = None) -> None:
        self.desk = desk
        self.frames = frames
        self.session = Session(desk.exchange, path, frames)
        self.session.open()
        self.token = desk.token(account) if account else None

    def send(self, method: str, **params: Any) -> Any:
        if self.token is not None:
            params.setdefault("token", self.token)
        return self.raw(json.dumps({"method": method, "params": params, "req_id": 7}))

    def raw(self, text: str) -> Any:
        self.frames.take()
        now_ns = self.desk.venue.now_ns
        self.session.receive(text, now_ns, now_ns)
        return self.frames.take()


@pytest.fixture
def connect(desk, make_frames):
    def make(path, account=None):
        return Client(desk, make_frames(), path, account)

    return make


def test_the_first_frame_is_the_status(desk, make_frames):
    frames = make_frames()
    Session(desk.exchange, "public", frames).open()

    (frame,) = frames.take()
    assert ("status", "update", "online") == (frame["channel"], frame["type"], frame["data"][0]["system"])
    assert frame["data"][0]["connection_id"] > 2**53


def test_acks_come_one_per_symbol_and_before_the_snapshots(connect, desk):
    replies = connect("public").send("subscribe", channel="book", symbol=["NO/USD", desk.symbol], depth=25)

    refused, ack, snapshot = replies
    assert ("Currency pair not supported NO/USD", "NO/USD", False, 7) == (
        refused["error"],
        refused["symbol"],
        refused["success"],
        refused["req_id"],
    )
    assert {"channel": "book", "depth": 25, "snapshot": True, "symbol": desk.symbol} == ack["result"]
    assert ("book", "snapshot") == (snapshot["channel"], snapshot["type"])


def test_heartbeats_start_with_the_first_subscription(connect, desk):
    client = connect("public")
    client.frames.take()
    client.session.heartbeat()
    before = client.frames.take()
    client.send("subscribe", channel="ticker", symbol=[desk.symbol])
    client.session.heartbeat()

    assert before == []
    assert [{"channel": "heartbeat"}] == client.frames.take()


def test_unsubscribe_quotes_the_depth_and_ends_the_frames(connect, desk):
    client = connect("public")
    client.send("subscribe", channel="book", symbol=[desk.symbol], depth=25)
    (wrong,) = client.send("unsubscribe", channel="book", symbol=[desk.symbol])
    desk.market.place("buy", 1000, 100)
    seen = client.frames.take()
    (right,) = client.send("unsubscribe", channel="book", symbol=[desk.symbol], depth=25)
    desk.market.place("buy", 995, 100)

    assert not wrong["success"]
    assert len(seen) == 1
    assert {"channel": "book", "depth": 25, "symbol": desk.symbol} == right["result"]
    assert client.frames.take() == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "Malformed request"),
        ("{", "Malformed request"),
        ("[]", "Malformed request"),
        ('{"method":5}', "Malformed request"),
        ('{"method":"ping","x":NaN}', "Malformed request"),
        ("[" * 100_000, "Malformed request"),
        ('{"method":"dance"}', "Unsupported event"),
        ('{"method":"subscribe","params":0}', "Unsupported event"),
        ('{"method":"ping","params":{}}', "Unsupported field: 'params' for the given msg type: ping"),
        ('{"method":"ping","req_id":"1"}', "Req_id field must be a number_integer"),
        ('{"method":"subscribe","params":{"channel":"ohlc","symbol":["ABC/USD"]}}', "Unsupported event"),
        (
            '{"method":"subscribe","params":{"channel":"book","symbol":["ABC/USD"],"depth":11}}',
            "Subscription depth not supported",
        ),
        (
            '{"method":"subscribe","params":{"channel":"trade","symbol":["ABC/USD"],"x":1}}',
            "Unsupported field: 'x' for the given msg type: subscribe",
        ),
        ('{"method":"batch_add","params":{}}', "EGeneral:Unknown method"),
    ],
)
def test_requests_that_are_refused_leave_the_connection_working(connect, text, error):
    client = connect("public")
    (reply,) = client.raw(text)
    (pong,) = client.raw('{"method":"ping","req_id":3}')

    assert (error, False) == (reply["error"], reply["success"])
    assert ("pong", 3) == (pong["method"], pong["req_id"])


def test_a_second_subscription_is_refused(connect, desk):
    client = connect("public")
    client.send("subscribe", channel="trade", symbol=[desk.symbol])
    (reply,) = client.send("subscribe", channel="trade", symbol=[desk.symbol])

    assert reply["error"] == "Already subscribed"


def test_numbers_in_quotes_are_refused_in_the_venues_words(connect, desk):
    client = connect("private", desk.alice)
    order = {"order_type": "limit", "side": "buy", "symbol": desk.symbol}
    (price,) = client.send("add_order", **order, order_qty=1, limit_price="100.0")
    (cash,) = client.send("add_order", **order, cash_order_qty="5")
    (amend,) = client.send("amend_order", order_id="O", limit_price="1")

    assert price["error"] == "Limit_price field must be a number_float"
    assert cash["error"] == "Cash_order_qty field must be a number_float"
    assert amend["error"] == "Limit_price field must be a number_float"


def test_private_requests_need_a_token_a_permission_and_the_right_path(connect, desk):
    without = connect("private").send("cancel_all")
    wrong = connect("private").send("cancel_all", token="no")
    public = connect("public").send("cancel_all")
    desk.keys.keys["alice"].permissions = frozenset({"query-funds", "create-ws-token"})
    reader = connect("private", desk.alice)
    denied = reader.send("cancel_all")
    channel = reader.send("subscribe", channel="executions")

    assert without[0]["error"] == "Token(s) not found"
    assert ("ESession:Invalid session", "error") == (wrong[0]["error"], wrong[0]["status"])
    assert public[0]["error"].startswith("Private data and trading are unavailable")
    assert denied[0]["error"] == "EGeneral:Permission denied"
    assert channel[0]["error"] == "EGeneral:Permission denied"


def test_a_token_lives_15_minutes_or_as_long_as_its_subscription(connect, desk):
    holder, late = connect("private", desk.alice), connect("private", desk.bob)
    holder.send("subscribe", channel="balances")
    desk.venue.now_ns += 901 * 1_000_000_000
    held, expired = holder.send("cancel_all"), late.send("cancel_all")
    holder.session.close()
    released = holder.send("cancel_all")

    assert held[0]["success"]
    assert expired[0]["error"] == "ESession:Invalid session"
    assert released[0]["error"] == "ESession:Invalid session"


def executions(client: Client, **params: Any) -> None:
    client.send("subscribe", channel="executions", **params)


def rows(client: Client) -> Any:
    return [row for f in client.frames.take() if f.get("channel") == "executions" for row in f["data"]]


def test_a_maker_order_shows_the_sparse_rows_of_the_venue(connect, desk):
    client = connect("private", desk.alice)
    executions(client)
    order = desk.order(desk.alice, "buy", "0.5", "100.0", cl_ord_id="mine", post_only=True)
    desk.market.take("sell", 2000)
    desk.market.take("sell", 3000)
    frames = [f for f in client.frames.take() if f["channel"] == "executions"]

    assert [2, 3, 4, 5, 6] == [frame["sequence"] for frame in frames]
    pending, new, trade, last, filled = (frame["data"][0] for frame in frames)
    assert (desk.symbol, "buy", Decimal("0.5000"), "GTC", True) == tuple(
        pending[k] for k in ("symbol", "side", "order_qty", "time_in_force", "post_only")
    )
    assert pending["stop_price"] == Decimal("0.0")
    assert {"timestamp", "order_status", "exec_type", "cl_ord_id", "post_only", "order_id"} == set(new)
    assert not {"order_qty", "limit_price"} & set(trade)
    assert ("partially_filled", "partially_filled", "filled") == tuple(
        row["order_status"] for row in (trade, last, filled)
    )
    assert [{"asset": "USD", "qty": Decimal("0.05000")}] == trade["fees"]
    assert ("m", Decimal("0.5000")) == (trade["liquidity_ind"], last["cum_qty"])
    assert not {"exec_id", "fees", "symbol", "side", "order_qty"} & set(filled)
    assert {order.order_id} == {row["order_id"] for row in (pending, new, trade, last, filled)}


def test_a_market_order_shows_new_trade_filled_at_one_time(connect, desk):
    client = connect("private", desk.alice)
    executions(client)
    desk.market.place("sell", 1000, 9000)
    desk.order(desk.alice, "buy", "0.5", order_type="market")
    seen = rows(client)

    assert ["pending_new", "new", "trade", "filled"] == [row["exec_type"] for row in seen]
    assert len({row["timestamp"] for row in seen}) == 1
    assert "limit_price" not in seen[0]
    assert "cl_ord_id" not in seen[1]
    assert seen[1]["order_userref"] == 0


def test_amend_cancel_and_expiry_rows_are_deltas(connect, desk):
    client = connect("private", desk.alice)
    executions(client)
    order = desk.order(desk.alice, "buy", "0.5", "100.0", cl_ord_id="mine")
    expire_at_ns = desk.start_ns + 1_000_000_000
    desk.order(desk.alice, "buy", "0.1", "90.0", time_in_force="gtd", expire_at_ns=expire_at_ns)
    client.frames.take()
    desk.venue.amend_order(desk.alice, AmendRequest(cl_ord_id="mine", qty=Decimal("0.4")))
    desk.venue.cancel_order(desk.alice, order.order_id, None)
    desk.venue.advance(expire_at_ns)
    amended, canceled, expired = rows(client)

    assert (True, Decimal("0.4000"), "User requested") == (
        amended["amended"],
        amended["order_qty"],
        amended["reason"],
    )
    assert "symbol" not in amended
    assert ("canceled", "User requested", "User requested") == (
        canceled["order_status"],
        canceled["reason"],
        canceled["cancel_reason"],
    )
    assert ("expired", "expired") == (expired["exec_type"], expired["order_status"])
    assert "reason" not in expired


def test_a_stop_shows_its_trigger_before_it_trades(connect, desk):
    client = connect("private", desk.alice)
    executions(client)
    desk.order(desk.alice, "sell", "0.5", order_type="stop-loss", trigger_price="99.0")
    desk.market.place("buy", 990, 9000)
    desk.market.take("sell", 100)
    seen = rows(client)

    assert ["pending_new", "new", "status", "trade", "filled"] == [row["exec_type"] for row in seen]
    assert ("untriggered", "triggered") == tuple(seen[i]["triggers"]["status"] for i in (0, 2))
    assert Decimal("99.0") == seen[0]["stop_price"] == seen[0]["triggers"]["price"]


def test_without_order_status_only_the_documented_rows_and_fills_come(connect, desk):
    client = connect("private", desk.alice)
    executions(client, order_status=False)
    desk.market.place("sell", 1000, 9000)
    desk.order(desk.alice, "buy", "0.5", "100.0")

    assert ["new", "trade", "filled"] == [row["exec_type"] for row in rows(client)]


def test_snapshots_hold_open_orders_and_the_last_fifty_fills(connect, desk):
    desk.market.place("sell", 1000, 9_000_000)
    for _ in range(51):
        desk.order(desk.alice, "buy", "0.01", "100.0")
    resting = desk.order(desk.alice, "buy", "0.2", "99.0", cl_ord_id="open")
    client = connect("private", desk.alice)
    ack, snapshot = client.send("subscribe", channel="executions", snap_trades=True, ratecounter=True)

    assert (180, True, True) == tuple(ack["result"][k] for k in ("maxratecount", "snap_orders", "snap_trades"))
    assert ("snapshot", 1) == (snapshot["type"], snapshot["sequence"])
    order, *trades = snapshot["data"]
    assert (resting.order_id, "open", "new") == (order["order_id"], order["cl_ord_id"], order["order_status"])
    assert len(trades) == 50
    assert {"filled"} == {row["order_status"] for row in trades}
    assert trades[0]["exec_id"] == desk.alice.fills[-1].exec_id


def test_a_fill_sends_two_balance_rows_with_one_reference(connect, desk):
    client = connect("private", desk.alice)
    _ack, snapshot = client.send("subscribe", channel="balances")
    desk.market.place("sell", 1000, 9000)
    desk.order(desk.alice, "buy", "0.5", "100.0")
    base, quote = client.frames.take()

    assert [("ABC", 10), ("USD", 1000)] == [(r["asset"], r["balance"]) for r in snapshot["data"]]
    assert (2, 3) == (base["sequence"], quote["sequence"])
    assert base["data"][0]["ref_id"] == quote["data"][0]["ref_id"] == desk.alice.fills[0].exec_id
    row = quote["data"][0]
    assert (Decimal(-50), Decimal("0.2"), Decimal("949.8")) == (row["amount"], row["fee"], row["balance"])


def test_other_accounts_hear_nothing(connect, desk):
    client = connect("private", desk.bob)
    executions(client)
    client.send("subscribe", channel="balances")
    desk.market.place("sell", 1000, 9000)
    desk.order(desk.alice, "buy", "0.5", "100.0")

    assert client.frames.take() == []


def test_the_trading_methods_answer_with_the_ids_that_were_given(connect, desk):
    client = connect("private", desk.alice)
    order = {"order_type": "limit", "side": "buy", "symbol": desk.symbol, "order_qty": 0.5, "limit_price": 100}
    (added,) = client.send("add_order", **order, cl_ord_id="mine")
    (amended,) = client.send("amend_order", cl_ord_id="mine", order_qty=0.4)
    canceled, unknown = client.send("cancel_order", cl_ord_id=["mine"], order_id=["OXXXXX-XXXXX-XXXXXX"])
    (count,) = client.send("cancel_all")
    (armed,) = client.send("cancel_all_orders_after", timeout=60)
    (disarmed,) = client.send("cancel_all_orders_after", timeout=0)

    assert {"order_id", "cl_ord_id"} == set(added["result"])
    assert {"amend_id", "cl_ord_id"} == set(amended["result"])
    assert {"EOrder:Unknown order"} == {r["error"] for r in (canceled, unknown) if not r["success"]}
    assert [{"cl_ord_id": "mine"}] == [r["result"] for r in (canceled, unknown) if r["success"]]
    assert {7} == {reply["req_id"] for reply in (canceled, unknown)}
    assert {"count": 0} == count["result"]
    assert armed["result"]["triggerTime"] > armed["result"]["currentTime"]
    assert disarmed["result"]["triggerTime"] == "0"


def test_deadlines_outside_half_a_second_to_a_minute_are_refused(connect, desk):
    client = connect("private", desk.alice)
    order = {"order_type": "limit", "side": "buy", "symbol": desk.symbol, "order_qty": 0.5, "limit_price": 100}
    (late,) = client.send("add_order", **order, deadline="2020-01-01T00:00:00.000Z")
    (word,) = client.send("add_order", **order, deadline="soon")

    assert {"EGeneral:Invalid arguments:deadline"} == {late["error"], word["error"]}


def test_level3_needs_a_token_and_shows_client_orders(connect, desk):
    mine = desk.order(desk.alice, "buy", "0.5", "100.0")
    (refused,) = connect("level3").send("subscribe", channel="level3", symbol=[desk.symbol])
    ack, snapshot = connect("level3", desk.alice).send("subscribe", channel="level3", symbol=[desk.symbol])

    assert refused["error"] == "Token(s) not found"
    assert ack["result"]["depth"] == 10
    assert [mine.order_id] == [row["order_id"] for row in snapshot["data"][0]["bids"]]


def test_the_instrument_snapshot_lists_pairs_and_assets(connect, desk):
    ack, snapshot = connect("public").send("subscribe", channel="instrument")

    assert ack["result"]["warnings"] == ["tick_size is deprecated, use price_increment"]
    (pair,) = snapshot["data"]["pairs"]
    assert (desk.symbol, 1, Decimal("0.5"), Decimal("0.01")) == tuple(
        pair[k] for k in ("symbol", "price_precision", "price_increment", "qty_min")
    )
    assert {"ABC", "USD"} == {asset["id"] for asset in snapshot["data"]["assets"]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
METHODS = ["ping", "subscribe", "unsubscribe", "add_order", "amend_order", "cancel_order", "cancel_all_orders_after"]
FIELDS = [
    *("channel", "symbol", "depth", "snapshot", "token", "order_type", "side", "order_qty", "limit_price", "triggers"),
    *("time_in_force", "expire_time", "deadline", "cl_ord_id", "order_userref", "order_id", "timeout", "post_only"),
]
likely = st.sampled_from(
    ["book", "level3", "executions", ["ABC/USD"], "ABC/USD", 10, "limit", "stop-loss", "market", "buy", "sell", 0.5,
     100.0, True, "gtd", {"price": 90.0}, 10**40, -1, 0, "2030-01-01T00:00:00Z", "TOKEN"]
)  # fmt: skip
requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(METHODS) | json_values,
        "params": st.dictionaries(st.sampled_from(FIELDS), likely | json_values),
    },
    optional={"req_id": json_values},
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=60) | requests.map(json.dumps), min_size=1, max_size=8))
def test_whatever_a_client_sends_is_answered(texts, make_desk, make_frames):
    desk = make_desk()
    for path in ("public", "private", "level3"):
        client = Client(desk, make_frames(), path, desk.alice)
        for text in texts:
            replies = client.raw(text.replace('"TOKEN"', f'"{client.token}"'))
            assert replies
            assert all("success" in r or "channel" in r or r.get("method") == "pong" for r in replies)
        client.session.close()


def test_lists_of_more_than_a_thousand_entries_are_refused_whole(connect, desk):
    client, private = connect("public"), connect("private", desk.alice)
    many = client.send("subscribe", channel="trade", symbol=["NO/USD"] * 1001)
    most = client.send("subscribe", channel="trade", symbol=["NO/USD"] * 1000)
    cancels = [private.send("cancel_order", **{name: ids}) for name, ids in LONG_LISTS.items()]

    assert ["EGeneral:Invalid arguments:symbol"] == [reply["error"] for reply in many]
    assert 1000 == len(most)
    assert [[f"EGeneral:Invalid arguments:{name}"] for name in LONG_LISTS] == [
        [reply["error"] for reply in replies] for replies in cancels
    ]


LONG_LISTS: dict[str, list[Any]] = {"order_id": ["A"] * 1001, "cl_ord_id": ["A"] * 1001, "order_userref": [7] * 1001}


def test_what_a_reader_is_told_is_in_the_record_already(desk):
    seen: list[tuple[str, int]] = []

    class Watching:
        def push(self, text: str) -> None:
            (row,) = json.loads(text)["data"] or [{}]
            seen.append((row.get("exec_type", ""), desk.record.counts["opened"] + desk.record.counts["cancelled"]))

    desk.exchange.private.read_executions(
        Watching(), desk.alice, snap_orders=False, snap_trades=False, order_status=False
    )
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.venue.cancel_order(desk.alice, order.order_id, None)

    assert [("", 0), ("new", 1), ("canceled", 2)] == seen


def test_orders_of_one_instant_stand_in_level3_with_times_that_rise(connect, desk):
    for _ in range(3):
        desk.order(desk.alice, "buy", "0.5", "100.0")
    _ack, snapshot = connect("level3", desk.alice).send("subscribe", channel="level3", symbol=[desk.symbol])
    times = [row["timestamp"] for row in snapshot["data"][0]["bids"]]

    assert 3 == len(times)
    assert sorted(set(times)) == times
