"""Trade with python-kraken-sdk: REST orders, history and ledgers, WS v2 orders, executions, balances and level3.

Run by the client's own interpreter with one argument, a JSON object of URLs and a key; prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from kraken.exceptions import KrakenInsufficientFundsError, KrakenUnknownOrderError  # type: ignore[import-not-found]
from kraken.spot import Market, SpotWSClient, Trade, User  # type: ignore[import-not-found]

PAIR, SYMBOL = "XBTUSD", "BTC/USD"
PATIENCE_S = 20


class PacedUser(User):  # type: ignore[misc]
    """Queries as slowly as Kraken wants them: its counter for REST falls by one each second."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(1.5)
        return super().request(*args, **kwargs)


class Feed:
    """Everything that one client of the SDK heard."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def hear(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._news.set()

    async def first(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for message in self.messages:
                    if wanted(message):
                        return message
                self._news.clear()
                await self._news.wait()

    def rows(self, channel: str) -> list[dict[str, Any]]:
        return [row for message in self.messages if message.get("channel") == channel for row in message["data"]]


def ends(cl_ord_id: str, exec_type: str) -> Callable[[dict[str, Any]], bool]:
    """Return whether a frame of executions says this of this order; later rows carry the order id only."""
    ids: set[str] = set()

    def wanted(message: dict[str, Any]) -> bool:
        rows = message["data"] if message.get("channel") == "executions" else []
        ids.update(row["order_id"] for row in rows if row.get("cl_ord_id") == cl_ord_id)
        return any(row["order_id"] in ids and row["exec_type"] == exec_type for row in rows)

    return wanted


def rest(given: dict[str, Any]) -> dict[str, Any]:
    """Place, amend and cancel by REST, and read everything back."""
    key = {"key": given["api_key"], "secret": given["api_secret"], "url": given["rest_url"]}
    market, trade, user = Market(url=given["rest_url"]), Trade(**key), PacedUser(**key)
    depth = market.get_order_book(pair=PAIR, count=1)["XXBTZUSD"]
    far = f"{float(depth['bids'][0][0]) * 0.8:.1f}"
    found: dict[str, Any] = {
        "system": market.get_system_status()["status"],
        "assets": sorted(market.get_assets(assets=["XBT", "ZUSD"])),
        "ticker": sorted(market.get_ticker(pair=PAIR)["XXBTZUSD"]),
        "trades": len(market.get_recent_trades(pair=PAIR)["XXBTZUSD"]),
        "balance_before": user.get_balance(currency="USD"),
    }
    limit = {"ordertype": "limit", "side": "buy", "pair": PAIR, "price": far}
    placed = trade.create_order(**limit, volume="0.01", cl_ord_id="sdk-rest-1", oflags=["post"])
    (txid,) = placed["txid"]
    found["placed"] = placed
    found["validated"] = trade.create_order(**limit, volume="0.01", validate=True)
    found["amend_id"] = trade.amend_order(txid=txid, order_qty="0.005", limit_price=far)["amend_id"]
    found["open"] = user.get_open_orders(trades=True)["open"]
    found["held"] = user.get_balances()["ZUSD"]["hold_trade"]
    found["cancelled"] = trade.cancel_order(txid=txid)
    sold = trade.create_order(ordertype="market", side="sell", pair=PAIR, volume="0.02", cl_ord_id="sdk-rest-2")
    found["orders"] = user.get_orders_info(txid=[txid, *sold["txid"]], trades=True)
    found["closed"] = user.get_closed_orders(trades=True)
    found["fills"] = user.get_trades_history()
    found["some_fills"] = user.get_trades_info(txid=sorted(found["fills"]["trades"])[:2])
    found["ledger"] = user.get_ledgers_info()
    found["volume"] = user.get_trade_volume(pair=PAIR)
    found["balances"] = user.get_account_balance()
    try:
        trade.cancel_order(txid=txid)
    except KrakenUnknownOrderError as error:
        found["second_cancel"] = type(error).__name__
    try:
        trade.create_order(ordertype="limit", side="buy", pair=PAIR, price=far, volume="1000")
    except KrakenInsufficientFundsError as error:
        found["too_much"] = type(error).__name__
    return found


async def stream(given: dict[str, Any]) -> dict[str, Any]:
    """Place, amend and cancel by WS v2, and follow executions, balances and level3."""
    key = {"key": given["api_key"], "secret": given["api_secret"], "rest_url": given["rest_url"]}
    private_url, level3_url = (given[name].removesuffix("/v2") for name in ("ws_private_url", "ws_level3_url"))
    private, level3 = Feed(), Feed()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(SpotWSClient(**key, callback=feed.hear, no_public=True, auth_ws_url=url))
            for feed, url in ((private, private_url), (level3, level3_url))
        ]
        await clients[0].subscribe(params={"channel": "executions", "snap_trades": True})
        await clients[0].subscribe(params={"channel": "balances"})
        await clients[1].subscribe(params={"channel": "level3", "symbol": [SYMBOL], "depth": 10})
        snapshot = await level3.first(lambda m: m.get("channel") == "level3" and m["type"] == "snapshot")
        price = round(snapshot["data"][0]["bids"][0]["limit_price"] * 0.8, 1)
        order = {"symbol": SYMBOL, "side": "buy", "order_type": "limit", "limit_price": price, "order_qty": 0.01}
        add = {"method": "add_order", "params": order | {"cl_ord_id": "sdk-ws-1"}}
        await clients[0].send_message(message=add)
        added = await private.first(lambda m: m.get("method") == "add_order")
        amend = {"cl_ord_id": "sdk-ws-1", "order_qty": 0.02, "limit_price": price}
        await clients[0].send_message(message={"method": "amend_order", "params": amend})
        await private.first(ends("sdk-ws-1", "amended"))
        await clients[0].send_message(message={"method": "cancel_order", "params": {"cl_ord_id": ["sdk-ws-1"]}})
        await private.first(ends("sdk-ws-1", "canceled"))
        sale = {"symbol": SYMBOL, "side": "sell", "order_type": "market", "order_qty": 0.01, "cl_ord_id": "sdk-ws-2"}
        await clients[0].send_message(message={"method": "add_order", "params": sale})
        await private.first(ends("sdk-ws-2", "filled"))
        await asyncio.sleep(given["seconds"])
        broken = [client.exception_occur for client in clients]
    return {
        "added": added,
        "executions": private.rows("executions"),
        "balances": private.rows("balances"),
        "failures": [m for feed in (private, level3) for m in feed.messages if m.get("success") is False],
        "level3": {
            kind: sum(m.get("channel") == "level3" and m["type"] == kind for m in level3.messages)
            for kind in ("snapshot", "update")
        },
        "level3_row": sorted(snapshot["data"][0]["bids"][0]),
        "heartbeats": sum(m.get("channel") == "heartbeat" for m in level3.messages),
        "broken": any(broken),
    }


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps({"rest": rest(arguments), "stream": asyncio.run(stream(arguments))}))
