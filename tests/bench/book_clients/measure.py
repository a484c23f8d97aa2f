"""Run the book path of one client that we did not write over given frames, turn by turn.

Run by the interpreter of the clients' environment with one argument, a JSON object: client, frames (a file, one frame
a line), symbols, depth, digits of prices and sizes, slice. Every line on standard input asks for a turn: new books, all
frames through the client's own message handler, CPU seconds slice by slice as one JSON line. The line `end` asks for
the best prices of every book instead.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

Touch = dict[str, list[float]]


class Books(Protocol):
    """The books of one client."""

    @abstractmethod
    def handler(self) -> Callable[[str], Awaitable[None] | None]:
        """Return what takes a frame's text."""

    @abstractmethod
    def touch(self) -> Touch:
        """Return best bid and ask of every symbol; raises AssertionError when the client calls a book invalid."""


class Cryptofeed:
    """cryptofeed: verifies every message, and raises when one is wrong."""

    def __init__(self, given: dict[str, Any]) -> None:
        from cryptofeed.defines import L2_BOOK  # type: ignore[import-not-found]
        from cryptofeed.exchanges import Kraken  # type: ignore[import-not-found]
        from cryptofeed.symbols import Symbols  # type: ignore[import-not-found]

        names = {symbol.replace("/", "-"): symbol for symbol in given["symbols"]}
        Symbols.set(Kraken.id, names, {"instrument_type": dict.fromkeys(names, "spot")})

        async def on_book(_book: Any, _receipt: float) -> None:
            pass

        self.feed = Kraken(
            symbols=list(names), channels=[L2_BOOK], callbacks={L2_BOOK: on_book}, max_depth=given["depth"]
        )
        if not self.feed.checksum_validation:
            raise AssertionError("cryptofeed does not verify")

    def handler(self) -> Callable[[str], Awaitable[None] | None]:
        handle = self.feed.message_handler
        return lambda text: handle(text, None, 1.0)

    def touch(self) -> Touch:
        return {
            name.replace("-", "/"): [float(book.book.bids.index(0)[0]), float(book.book.asks.index(0)[0])]
            for name, book in self.feed._l2_book.items()
        }


class Ccxt:
    """ccxt pro: as it ships it verifies nothing."""

    def __init__(self, given: dict[str, Any]) -> None:
        import ccxt.pro  # type: ignore[import-not-found]

        self.exchange = ccxt.pro.kraken()
        self.client = self.exchange.client("wss://localhost/v2")
        for symbol in given["symbols"]:
            name = self.exchange.get_message_hash("orderbook", None, symbol)
            self.client.subscriptions[name] = {"limit": given["depth"]}

    def handler(self) -> Callable[[str], Awaitable[None] | None]:
        take: Callable[[str], None] = self.client.handle_text_or_binary_message
        return take

    def touch(self) -> Touch:
        return {name: [book["bids"][0][0], book["asks"][0][0]] for name, book in self.exchange.orderbooks.items()}


class KrakenSdk:
    """python-kraken-sdk: verifies updates; its connection decodes with json before it calls the handler."""

    def __init__(self, given: dict[str, Any]) -> None:
        from kraken.spot import SpotOrderBookClient  # type: ignore[import-not-found]

        class Client(SpotOrderBookClient):  # type: ignore[misc]
            async def on_book_update(self, pair: str, message: dict[str, Any]) -> None:
                if "error" in message:
                    raise AssertionError(f"{pair}: {message['error']}")

        class Market:
            """Says at once what the client would ask REST for."""

            def get_asset_pairs(self, pair: str) -> dict[str, Any]:
                return {pair: {"pair_decimals": given["price_digits"], "lot_decimals": given["qty_digits"]}}

        self.symbols = given["symbols"]
        self.sdk = Client(depth=given["depth"])
        self.sdk._SpotOrderBookClient__market = Market()

    def handler(self) -> Callable[[str], Awaitable[None] | None]:
        take = self.sdk.on_message

        async def handle(text: str) -> None:
            await take(json.loads(text))

        return handle

    def touch(self) -> Touch:
        books = {symbol: self.sdk.get(symbol) for symbol in self.symbols}
        if not all(book["valid"] for book in books.values()):
            raise AssertionError("an invalid book")
        return {name: [float(next(iter(book[side]))) for side in ("bid", "ask")] for name, book in books.items()}


CLIENTS: dict[str, Callable[[dict[str, Any]], Books]] = {
    "cryptofeed": Cryptofeed,
    "ccxt": Ccxt,
    "python_kraken_sdk": KrakenSdk,
}


async def turn(books: Books, frames: list[str], untimed: int, size: int) -> list[float]:
    """Return the CPU seconds of each slice of frames after the first ones, which are not measured."""
    handle = books.handler()
    seconds = []
    for frame in frames[:untimed]:
        waiting = handle(frame)
        if waiting is not None:
            await waiting
    for start in range(untimed, len(frames), size):
        part = frames[start : start + size]
        started = time.process_time()
        for frame in part:
            waiting = handle(frame)
            if waiting is not None:
                await waiting
        seconds.append(time.process_time() - started)
    return seconds


async def main(given: dict[str, Any], frames: list[str]) -> None:
    logging.disable(logging.CRITICAL)
    books: Books | None = None
    for line in sys.stdin:
        if line.strip() == "end" and books is not None:
            answer: Any = books.touch()
        else:
            books = CLIENTS[given["client"]](given)
            answer = await turn(books, frames, given["untimed"], given["slice"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    asyncio.run(main(asked, Path(asked["frames"]).read_text().splitlines()))
