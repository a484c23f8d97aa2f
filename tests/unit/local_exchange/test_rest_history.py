"""REST endpoints that look back, without sockets: pages, filters, ids, and what a key says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from krakenbot.adapters.local_exchange.protocol.rest_private import PrivateRest
from krakenbot.adapters.local_exchange.protocol.rest_public import RestError

S = 1_000_000_000


@pytest.fixture
def ask(desk):
    def answer(name: str, **params: str) -> Any:
        return PrivateRest(desk.exchange).answer(name, desk.keys.keys["alice"], params)

    return answer


@pytest.fixture
def traded(desk):
    """Give alice 60 fills, a second apart; the first at the start plus one second."""
    desk.market.place("sell", 1000, 9_000_000)
    for number in range(60):
        desk.venue.now_ns = desk.start_ns + (number + 1) * S
        desk.order(desk.alice, "buy", "0.01", "100.0", order_userref=number % 2 + 1)
    return desk


@pytest.mark.parametrize(
    ("endpoint", "rows"), [("ClosedOrders", "closed"), ("TradesHistory", "trades"), ("Ledgers", "ledger")]
)
def test_pages_hold_fifty_rows_and_count_all(traded, ask, endpoint, rows):
    total = 120 if endpoint == "Ledgers" else 60
    first, last = ask(endpoint), ask(endpoint, ofs=str(total - 10), without_count="true")
    beyond = ask(endpoint, ofs="9999")

    assert (50, total, 10) == (len(first[rows]), first["count"], len(last[rows]))
    assert "count" not in last
    assert {} == beyond[rows]


def test_start_is_exclusive_and_end_inclusive_by_time_and_by_id(traded, ask):
    second = traded.start_ns // S
    fills = traded.alice.fills
    by_time = ask("TradesHistory", start=str(second + 10), end=str(second + 12))
    by_id = ask("TradesHistory", start=fills[9].exec_id, end=fills[11].exec_id)
    orders = ask("ClosedOrders", start=fills[9].order_id, end=f"{second + 12}.5")

    assert [fills[11].exec_id, fills[10].exec_id] == list(by_time["trades"]) == list(by_id["trades"])
    assert [fills[11].order_id, fills[10].order_id] == list(orders["closed"])


def test_orders_are_found_by_their_own_ids(traded, ask):
    named = traded.order(traded.alice, "buy", "0.1", "50.0", cl_ord_id="mine")
    other = traded.order(traded.alice, "buy", "0.1", "50.0", order_userref=2)
    opened = ask("OpenOrders", cl_ord_id="mine")
    by_ref = ask("OpenOrders", userref="2")
    closed = ask("ClosedOrders", userref="1")
    queried = ask("QueryOrders", txid=f"{named.order_id},{other.order_id}", userref="2")

    assert [named.order_id] == list(opened["open"])
    assert [other.order_id] == list(by_ref["open"]) == list(queried)
    assert 30 == closed["count"]
    assert {1} == {row["userref"] for row in closed["closed"].values()}


def test_trades_and_ledgers_are_named_when_they_are_asked_for(traded, ask):
    fill = traded.alice.fills[0]
    plain, full = ask("QueryTrades", txid=fill.exec_id), ask("QueryTrades", txid=fill.exec_id, ledgers="true")
    order = ask("QueryOrders", txid=fill.order_id, trades="true")[fill.order_id]

    assert "ledgers" not in plain[fill.exec_id]
    assert list(fill.ledger_ids) == full[fill.exec_id]["ledgers"]
    assert [fill.exec_id] == order["trades"]
    assert "trades" not in ask("QueryOrders", txid=fill.order_id)[fill.order_id]


def test_filters_by_kind_find_what_there_is(traded, ask):
    base, fees = ask("Ledgers", asset="ABC"), ask("Ledgers", type="deposit")
    none, every = ask("TradesHistory", type="closed position"), ask("TradesHistory", type="no position")

    assert (60, {"ABC"}) == (base["count"], {row["asset"] for row in base["ledger"].values()})
    assert (0, 0, 60) == (fees["count"], none["count"], every["count"])


@pytest.mark.parametrize(
    ("endpoint", "params", "error"),
    [
        ("QueryOrders", {}, "EGeneral:Invalid arguments"),
        ("QueryOrders", {"txid": "OAAAAA-AAAAA-AAAAAA"}, "EOrder:Unknown order"),
        ("QueryOrders", {"txid": ",".join(["O"] * 51)}, "EGeneral:Invalid arguments:txid"),
        ("QueryTrades", {"txid": ""}, "EGeneral:Invalid arguments:txid"),
        ("QueryTrades", {"txid": ",".join(["T"] * 21)}, "EGeneral:Invalid arguments:txid"),
        ("TradesHistory", {"type": "mine"}, "EGeneral:Invalid arguments:type"),
        ("TradesHistory", {"start": "NaN"}, "EGeneral:Invalid arguments:start"),
        ("TradesHistory", {"end": "1e999999"}, "EGeneral:Invalid arguments:end"),
        ("TradesHistory", {"ofs": "-1"}, "EGeneral:Invalid arguments:ofs"),
        ("ClosedOrders", {"closetime": "never"}, "EGeneral:Invalid arguments:closetime"),
        ("Ledgers", {"asset": "NOPE"}, "EQuery:Unknown asset"),
        ("Ledgers", {"type": "gift"}, "EGeneral:Invalid arguments:type"),
        ("TradeVolume", {"pair": "ABCUSD,NOPE"}, "EQuery:Unknown asset pair"),
    ],
)
def test_wrong_filters_are_refused_in_the_venues_words(traded, ask, endpoint, params, error):
    with pytest.raises(RestError) as caught:
        ask(endpoint, **params)

    assert error == caught.value.text


def test_a_key_tells_its_rights_and_its_window(desk, ask):
    key = desk.keys.keys["alice"]
    key.nonce_window, key.ip_allowlist, key.valid_until_s = 15, ("127.0.0.1",), 7
    key.permissions = frozenset({"modify-trades", "query-funds"})
    info = ask("GetApiKeyInfo")

    assert ("15", ["127.0.0.1"], "7", ["query-funds", "modify-trades"]) == tuple(
        info[name] for name in ("nonce_window", "ip_allowlist", "valid_until", "permissions")
    )
    assert {"api_key_name", "api_key", "nonce", "query_from", "query_to", "created_time", "last_used"} < set(info)
