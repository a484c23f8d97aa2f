"""REST endpoints without sockets: names, pages, and whatever a client may send."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.digits import rfc3339_us
from krakenbot.adapters.local_exchange.flow.instruments import load_instruments
from krakenbot.adapters.local_exchange.keys import AccountsFileError, parse_accounts, sign
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.protocol import instruments
from krakenbot.adapters.local_exchange.protocol.rest_gate import RestCall, RestGate
from krakenbot.adapters.local_exchange.protocol.rest_private import PrivateRest
from krakenbot.adapters.local_exchange.protocol.rest_public import PublicRest, RestError


@pytest.mark.parametrize(
    ("symbol", "key", "altname"),
    [
        ("BTC/USD", "XXBTZUSD", "XBTUSD"),
        ("ETH/BTC", "XETHXXBT", "ETHXBT"),
        ("DOGE/USD", "XDGUSD", "XDGUSD"),
        ("SOL/USD", "SOLUSD", "SOLUSD"),
        ("BTC/USDT", "XBTUSDT", "XBTUSDT"),
        ("BTC/AUD", "XBTAUD", "XBTAUD"),
    ],
)
def test_rest_names_are_the_venues(symbol, key, altname):
    rules = load_instruments()[symbol]
    venue = Venue({symbol: rules}, VenueSettings())

    assert (key, altname) == (instruments.rest_pair(rules), instruments.altname(rules))
    assert all(instruments.find_pair(venue, name) is rules for name in (key, altname, symbol))


@pytest.mark.parametrize("asset", ["BTC", "DOGE", "USD", "AUD", "ETH", "SOL", "USDT", "XTZ", "ZEC"])
def test_asset_names_go_both_ways(asset):
    assert instruments.new_name(instruments.rest_asset(asset)) == asset
    assert instruments.new_name(instruments.old_name(asset)) == asset


def test_history_comes_in_pages_of_fifty_newest_first(desk):
    rest = PrivateRest(desk.exchange)
    key = desk.keys.keys["alice"]
    desk.market.place("sell", 1000, 9_000_000)
    for _ in range(60):
        desk.order(desk.alice, "buy", "0.01", "100.0")
    first = rest.answer("TradesHistory", key, {})
    second = rest.answer("TradesHistory", key, {"ofs": "50"})
    ledgers = rest.answer("Ledgers", key, {"asset": "ZUSD", "ofs": "50"})

    assert (50, 60, 10) == (len(first["trades"]), first["count"], len(second["trades"]))
    assert next(iter(first["trades"])) == desk.alice.fills[-1].exec_id
    assert not set(first["trades"]) & set(second["trades"])
    assert (10, 60) == (len(ledgers["ledger"]), ledgers["count"])


def test_pairs_and_assets_come_filtered_and_under_new_names(desk):
    rest = PublicRest(desk.exchange)
    fees = rest.answer("AssetPairs", {"pair": "ABCUSD", "info": "fees"})
    new = rest.answer("AssetPairs", {"assetVersion": "1"})
    assets = rest.answer("Assets", {"assetVersion": "1", "asset": "ABC,USD", "aclass": "currency"})

    assert {"ABCUSD": {"fees", "fees_maker", "fee_volume_currency"}} == {k: set(v) for k, v in fees.items()}
    assert [("ABC/USD", "ABC", "USD")] == [(key, row["base"], row["quote"]) for key, row in new.items()]
    assert {"ABC": "ABC", "USD": "USD"} == {key: row["altname"] for key, row in assets.items()}


@pytest.mark.parametrize(
    ("name", "params", "error"),
    [
        ("AssetPairs", {"info": "all"}, "EGeneral:Invalid arguments:info"),
        ("AssetPairs", {"pair": "ABCUSD,NOPE"}, "EQuery:Unknown asset pair"),
        ("Assets", {"asset": "ABC,NOPE"}, "EQuery:Unknown asset"),
        ("Assets", {"aclass": "stones"}, "EGeneral:Invalid arguments:aclass"),
        ("Assets", {"assetVersion": "2"}, "EGeneral:Invalid arguments:assetVersion"),
        ("Depth", {}, "EGeneral:Invalid arguments"),
        ("Depth", {"pair": "ABCUSD", "count": "501"}, "EGeneral:Invalid arguments:count"),
        ("Trades", {"pair": "ABCUSD", "since": "x"}, "EGeneral:Invalid arguments:since"),
        ("OHLC", {"pair": "ABCUSD"}, "EGeneral:Unknown method"),
    ],
)
def test_public_requests_are_refused_in_the_venues_words(desk, name, params, error):
    with pytest.raises(RestError) as caught:
        PublicRest(desk.exchange).answer(name, params)

    assert error == caught.value.text


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"nonce=7&otp=123&txid=%s&trades=true"),
        ("", b"otp=123&txid=%s&trades=true&nonce=7"),
        ("application/json", b'{"nonce": 7, "otp": "123", "txid": ["%s"], "trades": true, "userref": null}'),
        ("application/json; charset=utf-8", b'{"nonce": "7", "txid": "%s", "trades": true, "nonsense": {"a": [1.50]}}'),
    ],
)
def test_form_and_json_bodies_say_the_same(desk, content_type, body):
    desk.market.place("sell", 1000, 9000)
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    body = body.replace(b"%s", order.order_id.encode())
    path = "/0/private/QueryOrders"
    call = RestCall(
        path=path,
        body=body,
        query={},
        content_type=content_type,
        api_key="alice",
        signature=sign(b"s", path, body, "7").decode(),
    )
    result = RestGate(desk.exchange).private(call)

    assert order.exec_ids == result[order.order_id]["trades"]
    assert 7 == desk.keys.keys["alice"].last_nonce


def test_a_key_is_refused_from_an_address_that_its_list_does_not_name(desk):
    desk.keys.keys["alice"].ip_allowlist = ("127.0.0.1",)
    path, errors = "/0/private/Balance", []
    for nonce, address in (("1", "10.0.0.1"), ("2", "127.0.0.1"), ("3", "10.0.0.1")):
        body = f"nonce={nonce}".encode()
        signature = sign(b"s", path, body, nonce).decode()
        call = RestCall(path=path, body=body, query={}, api_key="alice", signature=signature, address=address)
        try:
            errors.append(RestGate(desk.exchange).private(call) and "")
        except RestError as error:
            errors.append(error.text)

    assert ["EGeneral:Permission denied", "", "EGeneral:Permission denied"] == errors


def test_trades_go_on_from_where_the_caller_stands(desk):
    rest = PublicRest(desk.exchange)
    desk.market.place("sell", 1000, 9000)
    for second in range(3):
        desk.venue.now_ns = desk.start_ns + second
        desk.market.take("buy", 100)
    first = rest.answer("Trades", {"pair": "ABCUSD", "count": "2", "since": str(desk.start_ns - 1)})
    second = rest.answer("Trades", {"pair": "ABCUSD", "since": first["last"]})
    third = rest.answer("Trades", {"pair": "ABCUSD", "since": second["last"]})

    assert [1, 2] == [row[6] for row in first["ABCUSD"]]
    assert [3] == [row[6] for row in second["ABCUSD"]]
    assert ([], second["last"]) == (third["ABCUSD"], third["last"])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "no JSON"),
        ("{}", "must be a list"),
        ('["a"]', "accounts[0] must be an object"),
        ('[{"name": "a"}]', "accounts[0] has no balances and no keys; it must have exactly"),
        ('[{"name": "a", "keys": [], "balance": {}}]', "accounts[0] has no balances and an unknown balance; it must"),
        ('[{"name": "a", "keys": [], "balances": {"USD": "-1"}}]', "accounts[0].balances.USD"),
        ('[{"name": "a", "keys": [{"api_key": "k", "api_secret": "?"}], "balances": {}}]', "keys[0].api_secret"),
        (
            '[{"name": "a", "keys": [{"api_key": "k", "api_secret": "", "permissions": ["all"]}], "balances": {}}]',
            "keys[0].permissions",
        ),
        ('[{"name": "a", "keys": [], "balances": {}}, {"name": "a", "keys": [], "balances": {}}]', "unique"),
    ],
)
def test_a_wrong_accounts_file_names_the_place(text, place):
    with pytest.raises(AccountsFileError) as caught:
        parse_accounts(text)

    assert place in str(caught.value)


NAMES = ["pair", "asset", "count", "since", "txid", "cl_ord_id", "userref", "start", "end", "ofs", "type", "ordertype"]
NAMES += [
    "volume",
    "price",
    "price2",
    "oflags",
    "timeinforce",
    "expiretm",
    "deadline",
    "timeout",
    "order_qty",
    "stptype",
]
values = st.text(max_size=12) | st.sampled_from(
    ["ABCUSD", "ABC/USD", "buy", "sell", "limit", "market", "stop-loss", "0.5", "100.0", "-1", "1e999999999", "NaN",
     "+5", "post,fcib", "IOC", "9" * 400, "true", "²", "٣"]
)  # fmt: skip
ENDPOINTS = [
    *("Time", "Assets", "AssetPairs", "Ticker", "Depth", "Trades", "Balance", "BalanceEx", "TradeVolume"),
    *("OpenOrders", "ClosedOrders", "QueryOrders", "TradesHistory", "QueryTrades", "Ledgers", "GetApiKeyInfo"),
    *("AddOrder", "AmendOrder", "CancelOrder", "CancelAll", "CancelAllOrdersAfter", "GetWebSocketsToken", "Nothing"),
]
calls = st.lists(
    st.tuples(st.sampled_from(ENDPOINTS), st.dictionaries(st.sampled_from(NAMES), values, max_size=10)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=calls)
def test_whatever_a_rest_client_sends_is_answered_or_refused(calls, make_desk):
    desk = make_desk()
    public: Any = PublicRest(desk.exchange)
    private: Any = PrivateRest(desk.exchange)
    for name, params in calls:
        for rest, keys in ((public, ()), (private, (desk.keys.keys["alice"],))):
            try:
                json.loads(msgspec.json.encode(rest.answer(name, *keys, params)))
            except RestError as error:
                assert error.text  # noqa: PT017, either outcome is right


ORDER = {"pair": "ABCUSD", "type": "buy", "ordertype": "limit", "price": "90.0", "volume": "0.1"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("userref", text) for text in ("--5", "\u00b2", "-", "2147483648", "-2147483649", "5.0")),
        *(("volume", text) for text in ("1_0", "\uff11", "1 0")),
        *(("price", text) for text in ("9_0", "\uff19\uff10")),
        *(("validate", text) for text in ("yes", "maybe", "2")),
    ],
)
def test_what_python_reads_as_a_number_or_skips_is_no_argument_of_an_order(desk, name, text):
    rest, key = PrivateRest(desk.exchange), desk.keys.keys["alice"]
    with pytest.raises(RestError, match=f"EGeneral:Invalid arguments:{name}"):
        rest.answer("AddOrder", key, ORDER | {name: text})

    assert not desk.alice.orders


@pytest.mark.parametrize("userref", ["-2147483647", "2147483647", "0"])
def test_a_userref_of_32_bits_is_kept(desk, userref):
    rest, key = PrivateRest(desk.exchange), desk.keys.keys["alice"]
    (order_id,) = rest.answer("AddOrder", key, ORDER | {"userref": userref})["txid"]

    assert int(userref) == desk.alice.orders[order_id].request.order_userref


def test_a_deadline_over_rest_counts_from_the_arrival_of_the_request(desk):
    rest, key, now_ns = PrivateRest(desk.exchange), desk.keys.keys["alice"], desk.venue.now_ns
    (order_id,) = rest.answer("AddOrder", key, ORDER)["txid"]
    deadline = rfc3339_us(now_ns - 1_000_000_000)
    received_ns = now_ns - 4_000_000_000
    with pytest.raises(RestError, match="EService:Deadline elapsed"):
        rest.answer("AddOrder", key, ORDER | {"deadline": deadline}, received_ns)
    with pytest.raises(RestError, match="EService:Deadline elapsed"):
        rest.answer("AmendOrder", key, {"txid": order_id, "order_qty": "0.2", "deadline": deadline}, received_ns)
    with pytest.raises(RestError, match="EGeneral:Invalid arguments:deadline"):
        rest.answer("AddOrder", key, ORDER | {"deadline": deadline})

    assert [order_id] == list(desk.alice.orders)


def test_a_pair_named_many_times_is_looked_up_once(desk, monkeypatch):
    asked: list[str] = []

    def find(venue: Venue, name: str) -> Any:
        asked.append(name)
        return venue.markets["ABC/USD"].rules

    monkeypatch.setattr(instruments, "find_pair", find)
    names = ",".join(["ABCUSD"] * 1000)
    PublicRest(desk.exchange).answer("Ticker", {"pair": names})
    PrivateRest(desk.exchange).answer("TradeVolume", desk.keys.keys["alice"], {"pair": names})

    assert ["ABCUSD", "ABCUSD"] == asked


ENTRY = {"name": "a", "keys": [{"api_key": "k", "api_secret": "cw=="}], "balances": {"USD": "1"}}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"keys": [{"api_key": "k", "api_secret": "cw==", "permissions": [["x"]]}]}, "keys[0].permissions"),
        ({"keys": [{"api_key": "k", "api_secret": "cw==", "permission": []}]}, "keys[0]"),
        *(({"keys": [{"api_key": key, "api_secret": "cw=="}]}, "keys[0].api_key") for key in (None, "", " ", "\u00e9")),
        *(({"balances": {asset: "1"}}, "balances") for asset in ("", "XBT", "XDG", "USD\0")),
        *(({"balances": {"USD": text}}, "balances.USD") for text in ("1e999999", "1e15", "0.00000000001")),
        ({"name": "\ud800"}, "name"),
    ],
)
def test_an_accounts_file_that_cannot_work_is_refused(change, place):
    with pytest.raises(AccountsFileError) as caught:
        parse_accounts(json.dumps([ENTRY | change]))

    assert f"accounts[0].{place}" in str(caught.value)


def test_an_accounts_file_of_brackets_is_refused():
    with pytest.raises(AccountsFileError, match="no JSON"):
        parse_accounts("[" * 100_000)


def test_amounts_have_the_digits_of_their_asset(make_desk, make_frames):
    desk = make_desk()
    desk.market.place("sell", 1000, 9000)
    desk.order(desk.alice, "buy", "0.5", "100.0")
    rest, key, frames = PrivateRest(desk.exchange), desk.keys.keys["alice"], make_frames()
    base = next(row for row in rest.answer("Ledgers", key, {})["ledger"].values() if row["asset"] == "ABC")
    desk.exchange.private.read_balances(frames, desk.alice, snapshot=True)
    (shown,) = frames.texts

    assert ("0.5000000000", "0.0000000000") == (base["amount"], base["fee"])
    assert f'"asset":"ABC","asset_class":"currency","balance":{base["balance"]},' in shown


def test_balance_ex_shows_what_open_orders_hold(desk):
    desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.order(desk.alice, "sell", "0.25", "110.0")
    shown = PrivateRest(desk.exchange).answer("BalanceEx", desk.keys.keys["alice"], {})

    assert {"ABC": "0.2500000000", "ZUSD": "50.20000"} == {asset: row["hold_trade"] for asset, row in shown.items()}


def test_rest_pads_prices_to_five_digits(desk):
    desk.market.place("sell", 1000, 9000)
    desk.order(desk.alice, "buy", "0.5", "100.0")
    rest, private = PublicRest(desk.exchange), PrivateRest(desk.exchange)
    (trade,) = private.answer("TradesHistory", desk.keys.keys["alice"], {})["trades"].values()
    asks = rest.answer("Depth", {"pair": "ABCUSD"})["ABCUSD"]["asks"]

    assert ["100.00000"] * 3 == [rest.answer("Ticker", {})["ABCUSD"]["c"][0], asks[0][0], trade["price"]]


def test_an_amended_order_is_described_as_it_stands(desk):
    rest, key = PrivateRest(desk.exchange), desk.keys.keys["alice"]
    answer = rest.answer("AddOrder", key, ORDER)
    (order_id,) = answer["txid"]
    rest.answer("AmendOrder", key, {"txid": order_id, "order_qty": "0.2", "limit_price": "91.5"})
    shown = rest.answer("OpenOrders", key, {})["open"][order_id]["descr"]

    assert "buy 0.1000 ABCUSD @ limit 90.0" == answer["descr"]["order"]
    assert ("91.5", "buy 0.2000 ABCUSD @ limit 91.5") == (shown["price"], shown["order"])
    assert answer["descr"] == rest.answer("AddOrder", key, ORDER | {"validate": "true"})["descr"]
