"""Keep books with the order book client of python-kraken-sdk, which verifies every update itself.

Run by the client's own interpreter with one argument, a JSON object of URLs, symbols and seconds; prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from kraken.base_api import SpotClient  # type: ignore[import-not-found]
from kraken.spot import SpotOrderBookClient  # type: ignore[import-not-found]


class Books(SpotOrderBookClient):  # type: ignore[misc]
    """Counts what the client reports."""

    def __init__(self, depth: int) -> None:
        super().__init__(depth=depth)
        self.updates: Counter[str] = Counter()
        self.mismatches: Counter[str] = Counter()

    async def on_book_update(self, pair: str, message: dict[str, Any]) -> None:
        if "error" in message:
            self.mismatches[pair] += 1
        elif message["type"] == "update":
            self.updates[pair] += 1


async def main(given: dict[str, Any]) -> dict[str, Any]:
    # This client takes no URLs: they are attributes of its classes, and it adds /v2 itself.
    SpotClient.URL = given["rest_url"]
    SpotOrderBookClient.WS_URL = given["ws_public_url"].removesuffix("/v2")
    books = Books(depth=given["depth"])
    await books.start()
    await books.add_book(pairs=given["symbols"])
    await asyncio.sleep(given["seconds"])
    exception_occurred = books.exception_occur
    await books.close()
    kept = {symbol: books.get(symbol) or {} for symbol in given["symbols"]}
    return {
        "updates": books.updates,
        "mismatches": books.mismatches,
        "exception_occurred": exception_occurred,
        "invalid": [symbol for symbol, book in kept.items() if not book.get("valid")],
        "levels": {symbol: [len(book.get(side, ())) for side in ("bid", "ask")] for symbol, book in kept.items()},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
