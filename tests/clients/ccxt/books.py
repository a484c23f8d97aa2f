"""Watch order books with ccxt.pro.

Run by the client's own interpreter with one argument, a JSON object of URLs, symbols and seconds; prints JSON.
With `steps` the exchange's time is stepped: after each step every watched book is compared with REST's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

import aiohttp  # type: ignore[import-not-found]
import ccxt.pro  # type: ignore[import-not-found]

PATIENCE_S = 20


def make(given: dict[str, Any]) -> Any:
    """Return the client, pointed at other URLs; what it is told of the rate limit is what the exchange applies."""
    websockets = {"publicV2": given["ws_public_url"], "private": given["ws_private_url"]}
    api = {
        "public": given["rest_url"],
        "private": given["rest_url"],
        "ws": websockets | {"privateV2": given["ws_private_url"]},
    }
    return ccxt.pro.kraken({"apiKey": given["api_key"], "secret": given["api_secret"], "urls": {"api": api}})


def faults_of(book: Any, depth: int) -> list[str]:
    """Return what a book must not be."""
    bids, asks = ([level[0] for level in book[side]] for side in ("bids", "asks"))
    faults = []
    if bids != sorted(set(bids), reverse=True) or asks != sorted(set(asks)):
        faults.append("not in order")
    if bids and asks and bids[0] >= asks[0]:
        faults.append("crossed")
    if not (0 < len(bids) <= depth and 0 < len(asks) <= depth):
        faults.append("not of its depth")
    return faults


async def watch(exchange: Any, given: dict[str, Any], updates: Counter[str], faults: Counter[str]) -> None:
    while True:
        book = await exchange.watch_order_book_for_symbols(given["symbols"], given["depth"])
        updates[book["symbol"]] += 1
        faults.update(faults_of(book, given["depth"]))


async def step(exchange: Any, given: dict[str, Any], seconds: float) -> None:
    """Move time, and let frames that are under way arrive: the pong is behind them."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{given['rest_url']}/control/advance", json={"seconds": seconds}) as answer,
    ):
        answer.raise_for_status()
    client = exchange.client(given["ws_public_url"])
    before = client.lastPong
    async with asyncio.timeout(PATIENCE_S):
        while client.lastPong == before:
            await asyncio.sleep(0.05)
            await client.send({"method": "ping"})
            await asyncio.sleep(0.05)


async def differences(exchange: Any, given: dict[str, Any]) -> list[str]:
    """Return the symbols whose watched book is not REST's."""
    differing = []
    for symbol in given["symbols"]:
        depth = await exchange.fetch_order_book(symbol, given["depth"])
        watched = exchange.orderbooks[symbol]
        if any([row[:2] for row in depth[side]] != [row[:2] for row in watched[side]] for side in ("bids", "asks")):
            differing.append(symbol)
    return differing


async def main(given: dict[str, Any]) -> dict[str, Any]:
    exchange, updates, faults = make(given), Counter[str](), Counter[str]()
    differing: list[list[str]] = []
    try:
        await exchange.load_markets()
        watching = asyncio.create_task(watch(exchange, given, updates, faults))
        if given.get("steps"):
            exchange.enableRateLimit = False
            async with asyncio.timeout(PATIENCE_S):
                while not set(given["symbols"]) <= set(exchange.orderbooks):
                    await asyncio.sleep(0.05)
            for seconds in given["steps"]:
                await step(exchange, given, seconds)
                differing.append(await differences(exchange, given))
        else:
            await asyncio.wait([watching], timeout=given["seconds"])
        failure = repr(watching.exception()) if watching.done() else None
        watching.cancel()
    finally:
        await exchange.close()
    return {"updates": updates, "faults": faults, "differing": differing, "failure": failure}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
