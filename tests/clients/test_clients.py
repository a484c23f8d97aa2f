"""Clients that we did not write, unchanged but for URLs, against the local exchange; its record of truth decides.

All programs start together, so that the two that watch books for a minute set how long the module takes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest
from attrs import frozen

from krakenbot.adapters.local_exchange.pytest_plugin import KrakenExchange, running_exchange

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("clients"), pytest.mark.slow]
WATCHED_S = 60
WATCHED_SYMBOLS = 20
SECRET = base64.b64encode(b"the secret of a client's key").decode()
OPENING = {"USD": Decimal(25_000), "BTC": Decimal(2)}


@frozen(kw_only=True)
class Runs:
    """The programs by name, and the exchange on which they trade."""

    exchange: KrakenExchange
    programs: dict[str, Any]

    def result(self, name: str) -> Any:
        return self.programs[name].result()

    def account(self, name: str) -> Any:
        """Return the account's part of the truth, its orders by id."""
        (account,) = [each for each in self.exchange.truth()["accounts"] if each["name"] == name]
        return account | {"orders": {order["order_id"]: order for order in account["orders"]}}


@pytest.fixture(scope="module")
def runs(start) -> Iterator[Runs]:
    accounts = [
        {
            "name": name,
            "keys": [{"api_key": f"key-{name}", "api_secret": SECRET}],
            "balances": {asset: str(amount) for asset, amount in OPENING.items()},
        }
        for name in ("sdk", "ccxt-rest", "ccxt-stream")
    ]
    with ExitStack() as exchanges:
        live, stepped = (
            exchanges.enter_context(running_exchange(symbols=WATCHED_SYMBOLS, accounts=accounts, **options))
            for options in ({}, {"time": "stepped"})
        )

        def urls(exchange, name):
            names = ("rest_url", "ws_public_url", "ws_private_url", "ws_level3_url", "symbols")
            return {each: getattr(exchange, each) for each in names} | {"api_key": f"key-{name}", "api_secret": SECRET}

        # One account for each program of ccxt: its nonces are in milliseconds, and must not cross.
        sdk, by_rest, by_stream = (urls(live, name) for name in ("sdk", "ccxt-rest", "ccxt-stream"))
        few = {"symbols": live.symbols[:5], "depth": 10, "seconds": WATCHED_S}
        programs = {
            "sdk books": start("python_kraken_sdk", "books.py", **sdk, depth=10, seconds=WATCHED_S),
            "ccxt books": start("ccxt", "books.py", **by_rest | few),
            "sdk": start("python_kraken_sdk", "session.py", **sdk, seconds=4),
            "ccxt rest": start("ccxt", "session.py", **by_rest, part="rest"),
            "ccxt stream": start("ccxt", "session.py", **by_stream, part="stream"),
            "ccxt steps": start("ccxt", "books.py", **urls(stepped, "ccxt-rest"), depth=25, steps=[1, 4, 10, 15]),
        }
        yield Runs(exchange=live, programs=programs)


def fills_of(account, order_id):
    return {fill["exec_id"]: fill for fill in account["fills"] if fill["order_id"] == order_id}


def test_the_sdk_verifies_twenty_books_for_a_minute(runs):
    result = runs.result("sdk books")

    assert ({}, [], False) == (result["mismatches"], result["invalid"], result["exception_occurred"])
    assert set(runs.exchange.symbols) == set(result["updates"])
    assert {(10, 10)} == {tuple(levels) for levels in result["levels"].values()}
    assert min(result["updates"].values()) > WATCHED_S


def test_ccxt_watches_five_books_for_a_minute(runs):
    result = runs.result("ccxt books")

    assert (None, {}) == (result["failure"], result["faults"])
    assert set(runs.exchange.symbols[:5]) == set(result["updates"])
    assert min(result["updates"].values()) > WATCHED_S


def test_ccxt_has_the_books_that_rest_shows(runs):
    result = runs.result("ccxt steps")

    assert (None, {}) == (result["failure"], result["faults"])
    assert [[]] * 4 == result["differing"]


def test_the_sdk_trades_by_rest(runs):
    found = runs.result("sdk")["rest"]
    account = runs.account("sdk")
    (limit_id,) = found["placed"]["txid"]
    (sale_id,) = set(found["orders"]) - {limit_id}
    fills = fills_of(account, sale_id)
    limit = account["orders"][limit_id]

    assert ("canceled", "0.00500000", "sdk-rest-1") == (limit["status"], limit["qty"], limit["cl_ord_id"])
    assert [limit_id] == list(found["open"])
    assert Decimal(found["held"]) >= Decimal("0.005") * Decimal(limit["limit_price"])
    assert "txid" not in found["validated"]
    assert {limit_id, sale_id} == set(found["closed"]["closed"])
    assert sorted(fills) == sorted(found["orders"][sale_id]["trades"])
    assert {key: (Decimal(f["price"]), Decimal(f["qty"]), Decimal(f["fee"])) for key, f in fills.items()} == {
        key: (Decimal(t["price"]), Decimal(t["vol"]), Decimal(t["fee"])) for key, t in found["fills"]["trades"].items()
    }
    assert set(found["some_fills"]) <= set(fills)
    assert ("KrakenUnknownOrderError", "KrakenInsufficientFundsError") == (found["second_cancel"], found["too_much"])


def test_the_sdk_reads_a_ledger_that_adds_up(runs):
    found = runs.result("sdk")["rest"]
    entries = [entry for entry in found["ledger"]["ledger"].values() if entry["type"] == "trade"]
    moved = {
        asset: sum((Decimal(e["amount"]) - Decimal(e["fee"]) for e in entries if e["asset"] == asset), Decimal(0))
        for asset in ("XXBT", "ZUSD")
    }

    assert {entry["refid"] for entry in entries} == set(found["fills"]["trades"])
    assert Decimal("-0.02") == moved["XXBT"]
    assert OPENING["USD"] + moved["ZUSD"] == Decimal(found["balances"]["ZUSD"])
    assert OPENING["BTC"] + moved["XXBT"] == Decimal(found["balances"]["XXBT"])


def test_the_sdk_follows_its_executions_and_balances(runs):
    found = runs.result("sdk")["stream"]
    account = runs.account("sdk")
    rows = found["executions"]
    ids = {row["cl_ord_id"]: row["order_id"] for row in rows if "cl_ord_id" in row}
    limit = [row["exec_type"] for row in rows if row["order_id"] == ids["sdk-ws-1"]]
    sold = [row for row in rows if row["order_id"] == ids["sdk-ws-2"]]
    fills = fills_of(account, ids["sdk-ws-2"])
    last = {row["asset"]: Decimal(str(row["balance"])) for row in found["balances"]}

    assert ["pending_new", "new", "amended", "canceled"] == limit
    assert {"pending_new", "new", "trade", "filled"} == {row["exec_type"] for row in sold}
    assert {row["exec_id"]: Decimal(str(row["last_qty"])) for row in sold if row["exec_type"] == "trade"} == {
        key: Decimal(fill["qty"]) for key, fill in fills.items()
    }
    assert {asset: Decimal(text) for asset, text in account["balances"].items()} == last
    assert ([], False) == (found["failures"], found["broken"])


def test_the_sdk_reads_level3(runs):
    found = runs.result("sdk")["stream"]

    assert 1 == found["level3"]["snapshot"]
    assert found["level3"]["update"] > 10
    assert ["limit_price", "order_id", "order_qty", "timestamp"] == found["level3_row"]
    assert found["heartbeats"] >= 3


def test_ccxt_trades_by_rest(runs):
    found = runs.result("ccxt rest")
    account = runs.account("ccxt-rest")
    limit, stop, sale = (account["orders"][found["ids"][name]] for name in ("limit", "stop", "sale"))
    fills = fills_of(account, sale["order_id"])
    changes = {asset: Decimal(str(found["after"][asset])) - amount for asset, amount in OPENING.items()}

    assert sorted(runs.exchange.symbols) == found["markets"]
    assert ("ok", {"maker": 0.0025, "taker": 0.004}) == (found["status"], found["fee"])
    assert found["book"][0] < found["book"][1]
    assert ("canceled", "0.00500000") == (limit["status"], limit["qty"])
    assert ("open", 0.005, "ccxt-rest-1") == tuple(found["fetched"][n] for n in ("status", "amount", "clientOrderId"))
    assert found["fetched"] in found["open"]
    assert ("stop-loss", "canceled") == (stop["order_type"], stop["status"])
    assert {limit["order_id"], stop["order_id"], sale["order_id"]} == {each["id"] for each in found["closed"]}
    assert {key: (Decimal(f["price"]), Decimal(f["cost"]), Decimal(f["fee"])) for key, f in fills.items()} == {
        trade["id"]: tuple(Decimal(str(figure)) for figure in (trade["price"], trade["cost"], trade["fee"]["cost"]))
        for trade in found["my_trades"]
    }
    assert Decimal("-0.02") == changes["BTC"]
    assert sum(Decimal(f["cost"]) - Decimal(f["fee"]) for f in fills.values()) == changes["USD"]
    assert 2 * len(fills) == len(found["ledger"])
    assert {"second_cancel": "OrderNotFound", "too_much": "InsufficientFunds", "too_little": "InvalidOrder"} == {
        name: error for name, error in found["errors"].items() if name != "wrong_secret"
    }
    # ccxt has no class of its own for "EAPI:Invalid signature".
    assert "ExchangeError" == found["errors"]["wrong_secret"]


def test_ccxt_trades_by_websocket(runs):
    found = runs.result("ccxt stream")
    account = runs.account("ccxt-stream")
    fills = fills_of(account, found["sale"])

    assert found["placed"] == found["edited"]
    assert ("canceled", "0.00500000") == tuple(account["orders"][found["placed"]][name] for name in ("status", "qty"))
    assert [found["placed"], "canceled"] in found["statuses"]
    assert [found["sale"], "closed"] in found["statuses"]
    assert {key: (Decimal(f["price"]), Decimal(f["qty"]), Decimal(f["fee"])) for key, f in fills.items()} == {
        trade["id"]: tuple(Decimal(str(figure)) for figure in (trade["price"], trade["amount"], trade["fee"]["cost"]))
        for trade in found["own"]
        if trade["order"] == found["sale"]
    }
    assert {asset: Decimal(text) for asset, text in account["balances"].items()} == {
        asset: Decimal(str(amount)) for asset, amount in found["balance"].items()
    }
    # ccxt knows this refusal only by the longer text of WS v1, which Kraken's v2 no longer sends.
    assert "ExchangeError" == found["rejected"]
    assert found["ticker"]["bid"] < found["ticker"]["ask"]
    assert [] == found["failures"]


def test_the_exchange_met_no_error_of_its_own(runs):
    for program in runs.programs.values():
        program.result()
    counters = runs.exchange.status()["counters"]

    assert 0 == counters.get("internal_errors", 0)
    assert 0 == counters.get("slow_readers_dropped", 0)


def test_ccxt_cannot_check_a_checksum_in_python_whoever_sends_the_book(start):
    # ccxt has it off by default and says so (ccxt issue 24461). With the option on, its Python code fails on a
    # number that is no text, before it compares anything: here on the worked example of Kraken's documentation.
    bids = [(45283.5, 0.1), (45283.4, 1.54582015), (45282.1, 0.1), (45281.0, 0.1), (45280.3, 1.54592586)]
    bids += [(45279.0, 0.0799), (45277.6, 0.03310103), (45277.5, 0.3), (45277.3, 1.54602737), (45276.6, 0.15445238)]
    asks = [
        (45285.2, 0.001),
        (45286.4, 1.54571953),
        (45286.6, 1.54571109),
        (45289.6, 1.54560911),
        (45290.2, 0.15890660),
    ]
    asks += [
        (45291.8, 1.54553491),
        (45294.7, 0.04454749),
        (45296.1, 0.35380000),
        (45297.5, 0.09945542),
        (45299.5, 0.18772827),
    ]
    rows = {side: [{"price": p, "qty": q} for p, q in levels] for side, levels in (("bids", bids), ("asks", asks))}
    book = rows | {"symbol": "BTC/USD", "checksum": 3310070434}
    program = start("ccxt", "checksum.py", channel="book", type="snapshot", data=[book])

    assert "AttributeError: 'float' object has no attribute 'split'" == program.result()
