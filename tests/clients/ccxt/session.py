"""Trade with ccxt: REST and ccxt.pro, from markets to the balance.

Run by the client's own interpreter with one argument, a JSON object of URLs, a key and the part; prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import ccxt  # type: ignore[import-not-found]
import ccxt.pro  # type: ignore[import-not-found]

SYMBOL = "BTC/USD"
PATIENCE_S = 20
OWN = ("id", "order", "side", "price", "amount", "cost", "takerOrMaker", "fee")


def configuration(given: dict[str, Any]) -> dict[str, Any]:
    """Return what points the client at other URLs."""
    websockets = {"publicV2": given["ws_public_url"], "private": given["ws_private_url"]}
    api = {
        "public": given["rest_url"],
        "private": given["rest_url"],
        "ws": websockets | {"privateV2": given["ws_private_url"]},
    }
    return {"apiKey": given["api_key"], "secret": given["api_secret"], "urls": {"api": api}}


def plain(order: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "clientOrderId", "status", "symbol", "type", "side", "price", "amount", "filled", "average")
    return {name: order.get(name) for name in names}


def rest(given: dict[str, Any]) -> dict[str, Any]:
    """Place, amend and cancel by REST, and read everything back."""
    exchange = ccxt.kraken(configuration(given))
    markets = exchange.load_markets()
    found: dict[str, Any] = {"markets": sorted(markets), "status": exchange.fetch_status()["status"]}
    fee = exchange.fetch_trading_fee(SYMBOL)
    found["fee"] = {name: fee[name] for name in ("maker", "taker")}
    found["time_ms"] = exchange.fetch_time()
    bid = exchange.fetch_ticker(SYMBOL)["bid"]
    found["book"] = [exchange.fetch_order_book(SYMBOL, 5)[side][0][0] for side in ("bids", "asks")]
    found["trades"] = len(exchange.fetch_trades(SYMBOL, limit=20))
    found["before"] = exchange.fetch_balance()["total"]
    far = exchange.price_to_precision(SYMBOL, bid * 0.8)
    order = exchange.create_order(SYMBOL, "limit", "buy", 0.01, far, {"clientOrderId": "ccxt-rest-1"})
    found["held"] = exchange.fetch_balance()["USD"]["used"]
    edited = exchange.edit_order(order["id"], SYMBOL, "limit", "buy", 0.005, far)
    found["edited"] = plain(edited)
    found["fetched"] = plain(exchange.fetch_order(order["id"], SYMBOL))
    found["open"] = [plain(each) for each in exchange.fetch_open_orders(SYMBOL)]
    stop = exchange.create_order(SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": far})
    found["stop"] = plain(exchange.fetch_order(stop["id"], SYMBOL))
    exchange.cancel_order(stop["id"])
    exchange.cancel_order(order["id"])
    sale = exchange.create_order(SYMBOL, "market", "sell", 0.02)
    found["ids"] = {"limit": order["id"], "stop": stop["id"], "sale": sale["id"]}
    found["closed"] = [plain(each) for each in exchange.fetch_closed_orders(SYMBOL)]
    found["my_trades"] = [{name: trade[name] for name in OWN} for trade in exchange.fetch_my_trades(SYMBOL)]
    found["ledger"] = [[entry["id"], entry["currency"], entry["amount"]] for entry in exchange.fetch_ledger()]
    found["after"] = exchange.fetch_balance()["total"]
    errors: dict[str, str] = {}
    for name, call in {
        "second_cancel": lambda: exchange.cancel_order(order["id"]),
        "too_much": lambda: exchange.create_order(SYMBOL, "limit", "buy", 1000, far),
        "too_little": lambda: exchange.create_order(SYMBOL, "limit", "buy", 0.00001, far),
        "wrong_secret": lambda: ccxt.kraken(configuration(given) | {"secret": "bm8="}).fetch_balance(),
    }.items():
        try:
            call()
        except ccxt.BaseError as error:
            errors[name] = type(error).__name__
    return found | {"errors": errors}


async def keep(watch: Callable[[], Any]) -> None:
    """Call a watch method again and again, as its users do; what it heard is in the caches of the exchange."""
    while True:
        await watch()


async def until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not wanted():
            await asyncio.sleep(0.05)


async def stream(given: dict[str, Any]) -> dict[str, Any]:
    """Place, amend and cancel by WS v2, and follow orders, own trades, balance, ticker and trades."""
    exchange = ccxt.pro.kraken(configuration(given))
    watches = (
        exchange.watch_orders,
        exchange.watch_my_trades,
        exchange.watch_balance,
        lambda: exchange.watch_ticker(SYMBOL),
        lambda: exchange.watch_trades(SYMBOL),
    )
    try:
        await exchange.load_markets()
        watching = [asyncio.create_task(keep(watch)) for watch in watches]
        await until(lambda: SYMBOL in exchange.tickers and "spot" in exchange.balance)
        far = float(exchange.price_to_precision(SYMBOL, exchange.tickers[SYMBOL]["bid"] * 0.8))
        placed = await exchange.create_order_ws(SYMBOL, "limit", "buy", 0.01, far)
        edited = await exchange.edit_order_ws(placed["id"], SYMBOL, "limit", "buy", 0.005, far)
        await exchange.cancel_order_ws(placed["id"])
        sale = await exchange.create_order_ws(SYMBOL, "market", "sell", 0.01)

        def reached(order_id: str, status: str) -> bool:
            return any(o["id"] == order_id and o["status"] == status for o in exchange.orders or ())

        await until(lambda: reached(placed["id"], "canceled") and reached(sale["id"], "closed"))
        await until(lambda: SYMBOL in exchange.trades)
        total = (await exchange.fetch_balance())["total"]
        await until(lambda: bool(exchange.balance["spot"]["total"] == total))
        rejected = ""
        try:
            await exchange.create_order_ws(SYMBOL, "limit", "buy", 1000, far)
        except ccxt.BaseError as error:
            rejected = type(error).__name__
        return {
            "placed": placed["id"],
            "edited": edited["id"],
            "sale": sale["id"],
            "statuses": [[order["id"], order["status"]] for order in exchange.orders],
            "own": [{name: trade[name] for name in OWN} for trade in exchange.myTrades],
            "balance": exchange.balance["spot"]["total"],
            "rejected": rejected,
            "ticker": {name: exchange.tickers[SYMBOL][name] for name in ("bid", "ask", "last")},
            "failures": [repr(task.exception()) for task in watching if task.done()],
        }
    finally:
        await exchange.close()


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(rest(arguments) if arguments["part"] == "rest" else asyncio.run(stream(arguments))))
