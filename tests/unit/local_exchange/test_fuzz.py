"""Whatever a client sends: an answer of Kraken's shape, never an exception, and nothing changed by a refusal."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.keys import sign
from krakenbot.adapters.local_exchange.limits.settings import LimitSettings
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.rest_gate import RestCall, RestGate
from krakenbot.adapters.local_exchange.protocol.rest_public import RestError
from krakenbot.adapters.local_exchange.protocol.session import Session

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
TRADING = ("add_order", "amend_order", "cancel_order", "cancel_all", "cancel_all_orders_after")

RAW_NUMBERS = ["1e400", "-1e400", "1e-400", "0", "-0", "-1", "0.0", "1E5", "9" * 400, "NaN", "Infinity", "-Infinity"]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
likely = st.sampled_from(
    ["ABC/USD", ["ABC/USD"], "limit", "market", "stop-loss", "trailing-stop", "buy", "sell", 0.5, 100.0, 99.5, 0, -1,
     True, False, "gtc", "gtd", "ioc", "fok", {"price": 90.0}, {"price": 5, "price_type": "pct"}, "mine", ["mine"], 60,
     "2030-01-01T00:00:00Z", "base", "cancel_both", "book", "level3", "executions", "instrument", 10, 1000]
)  # fmt: skip
FIELDS = [
    *("channel", "symbol", "depth", "snapshot", "snap_orders", "event_trigger", "users", "ratecounter", "token"),
    *("order_type", "side", "order_qty", "limit_price", "triggers", "time_in_force", "expire_time", "deadline"),
    *("cl_ord_id", "order_userref", "order_id", "timeout", "post_only", "stp_type", "fee_preference", "validate"),
    *("margin", "reduce_only", "limit_price_type", "cash_order_qty", "conditional", "x" * 300),
]
ORDER = {"order_type": "limit", "side": "buy", "symbol": "ABC/USD", "order_qty": 0.5, "limit_price": 100.0}


@st.composite
def frames(draw: Any) -> str:
    """Return the text of a request: of a known kind with some fields wrong, or something else altogether."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return str(draw(st.text(max_size=80)))
    method = draw(st.sampled_from([*TRADING, "subscribe", "unsubscribe", "ping", "batch_add", "edit_order"]))
    changes = draw(st.dictionaries(st.sampled_from(FIELDS), likely | values, max_size=6))
    params = (ORDER if method == "add_order" else {}) | {"token": "TOKEN"} | changes
    text = json.dumps({"method": method, "params": params, "req_id": draw(st.integers(0, 9) | values)})
    match kind:
        case 1:  # a number that no computer likes, where a number stood
            return text.replace("0.5", draw(st.sampled_from(RAW_NUMBERS)), 1)
        case 2:  # a name twice
            return text.replace("{", '{"method":"ping",', 1)
        case 3:  # cut off
            return text[: draw(st.integers(0, len(text)))]
        case _:
            return text


def is_reply(frame: Any) -> bool:
    if frame.get("method") == "pong" or "channel" in frame:
        return True
    has_outcome = ("error" in frame) != ("result" in frame)
    return has_outcome and frame["success"] == ("result" in frame) and {"method", "time_in", "time_out"} <= set(frame)


@FUZZ
@given(texts=st.lists(frames(), min_size=1, max_size=6))
def test_every_frame_is_answered_and_a_refused_one_changes_nothing(texts, make_desk, make_frames):
    desk = make_desk()
    desk.market.place("sell", 1005, 5000)
    truth = desk.record.truth()
    for path in ("private", "public", "level3"):
        reader = make_frames()
        session = Session(desk.exchange, path, reader)
        session.open()
        reader.take()
        token = desk.token(desk.alice)
        for text in texts:
            counted = desk.record.counts["rejected"]
            session.receive(text.replace("TOKEN", token), desk.venue.now_ns, desk.venue.now_ns)
            replies = reader.take()
            after = desk.record.truth()
            assert replies
            assert all(is_reply(reply) for reply in replies), replies
            if not any(reply.get("success") for reply in replies):
                assert without_counts(truth) == without_counts(after)
                assert after["counts"].get("rejected", 0) - counted in (0, 1, 2, 3)
            truth = after
        session.close()


def without_counts(truth: Any) -> Any:
    """Return the state of the accounts alone: refusals are counted and recorded, which is all they may do."""
    return truth["accounts"]


ENDPOINTS = [
    *("Time", "SystemStatus", "Assets", "AssetPairs", "Ticker", "Depth", "Trades", "Nothing", "", "a/b"),
    *("Balance", "BalanceEx", "TradeVolume", "OpenOrders", "ClosedOrders", "QueryOrders", "TradesHistory"),
    *("QueryTrades", "Ledgers", "GetApiKeyInfo", "GetWebSocketsToken", "AddOrder", "AmendOrder", "CancelOrder"),
    *("CancelAll", "CancelAllOrdersAfter", "EditOrder"),
]
NAMES = [
    *("pair", "asset", "count", "since", "txid", "cl_ord_id", "userref", "start", "end", "ofs", "type", "ordertype"),
    *("volume", "price", "price2", "oflags", "timeinforce", "expiretm", "starttm", "deadline", "timeout", "order_qty"),
    *("stptype", "validate", "leverage", "info", "assetVersion", "trades", "closetime", "trigger", "otp", "aclass"),
    *("limit_price", "trigger_price", "post_only", "close[ordertype]", "displayvol", "reduce_only", "without_count"),
]
words = st.text(max_size=12) | st.sampled_from(
    ["ABCUSD", "ABC/USD", "ABCUSD,ABCUSD", "buy", "sell", "limit", "market", "stop-loss-limit", "trailing-stop", "0.5",
     "100.0", "-1", "0", "1e999999999", "1e400", "NaN", "Infinity", "+5", "+5%", "#5", "post,fcib", "IOC", "FOK", "GTD",
     "9" * 400, "true", "1", "²", "٣", "60", "mine", "\x00", "a,,b"]
)  # fmt: skip
rest_params = st.dictionaries(st.sampled_from(NAMES), words, max_size=8)


def ask(gate: RestGate, name: str, params: dict[str, Any], nonce: int, *, as_json: bool) -> bool:
    """Send one request to both sides; tell whether the private one was carried out."""
    params = {"nonce": str(nonce), **params}
    body = (json.dumps(params) if as_json else urlencode(params)).encode()
    return send(gate, name, body, str(nonce), "application/json" if as_json else "")


def send(gate: RestGate, name: str, body: bytes, nonce: str, content_type: str) -> bool:
    path = f"/0/private/{name}"
    signature = sign(b"s", path, body, nonce).decode()
    private = RestCall(path=path, body=body, query={}, content_type=content_type, api_key="alice", signature=signature)
    public = RestCall(path=f"/0/public/{name}", body=body, query={}, content_type=content_type)
    is_done = False
    for answer, call in ((gate.public, public), (gate.private, private)):
        try:
            msgspec.json.encode(answer(call))
            is_done = call is private
        except RestError as error:
            assert error.text.startswith("E")  # noqa: PT017, either outcome is right
    return is_done


def open_gate(desk: Any) -> RestGate:
    limits = LimitSettings.of("off")
    return RestGate(Exchange(desk.venue, desk.keys, desk.record, desk.exchange.clock, limits))


@FUZZ
@given(
    calls=st.lists(st.tuples(st.sampled_from(ENDPOINTS), rest_params, st.booleans()), min_size=1, max_size=6),
    complete=st.booleans(),
)
def test_every_rest_call_is_answered_and_a_refused_one_changes_nothing(calls, complete, make_desk):
    desk = make_desk()
    gate = open_gate(desk)
    desk.market.place("sell", 1005, 5000)
    base = (
        {"pair": "ABCUSD", "type": "buy", "ordertype": "limit", "volume": "0.5", "price": "100.0"} if complete else {}
    )
    for number, (name, params, as_json) in enumerate(calls, start=1):
        before = without_counts(desk.record.truth())
        if not ask(gate, name, base | params, number, as_json=as_json):
            assert before == without_counts(desk.record.truth())


@FUZZ
@given(
    body=st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()),
    name=st.sampled_from(ENDPOINTS),
    content_type=st.sampled_from(["", "application/json", "text/plain"]),
    nonce=st.sampled_from(["", "1", "x", "\ud800"]),
)
def test_any_bytes_are_a_body_that_is_answered(body, name, content_type, nonce, make_desk):
    desk = make_desk()
    send(open_gate(desk), name, body, nonce, content_type)

    assert without_counts(make_desk().record.truth()) == without_counts(desk.record.truth())


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"method":' * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        '{"method":"ping","req_id":' + "9" * 5_000 + "}",
        '{"method":"ping","req_id":1e400}',
        '{"method":"ping","req_id":NaN}',
        '{"method":"x","params":"' + "y" * 10_000_000 + '"}',
        "\ufeff{}",
        '{"method":"\ud800"}',
        '{"method":"\\ud800","params":{}}',
        '{"method":"subscribe","params":{"channel":"book","symbol":["\\ud800"]}}',
        '{"method":"add_order","params":{"sender_sub_id":"\\udfff"}}',
        '{"method":"subscribe","params":{"channel":"book","symbol":["\\u0000"]}}',
        "\x00",
        "CloudFlare",
    ],
    ids=range(15),
)
def test_texts_that_no_client_should_send_are_answered(text, desk, make_frames):
    reader = make_frames()
    session = Session(desk.exchange, "public", reader)
    session.receive(text, desk.venue.now_ns, desk.venue.now_ns)
    replies = reader.take()

    assert replies
    assert all(is_reply(reply) for reply in replies)
    assert not replies[0]["success"]


@pytest.mark.parametrize("figure", [*RAW_NUMBERS, "1e30", "0.00000000000000000001", "1.00000000000000000000000001"])
@pytest.mark.parametrize("field", ["order_qty", "limit_price"])
def test_odd_figures_are_refused_in_the_venues_words(figure, field, desk, make_frames):
    reader = make_frames()
    session = Session(desk.exchange, "private", reader)
    params = json.dumps(ORDER | {field: "FIGURE", "token": desk.token(desk.alice)}).replace('"FIGURE"', figure)
    session.receive(f'{{"method":"add_order","params":{params}}}', desk.venue.now_ns, desk.venue.now_ns)
    (reply,) = reader.take()

    assert not reply["success"]
    assert reply["error"].split(":")[0] in {"Malformed request", "EGeneral", "EOrder"}
    assert not desk.alice.orders
