"""The real feed in front of a local exchange, with a key that may read level3."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed, MarketFeedSettings
from krakenbot.adapters.kraken.nonce import NonceSource
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.local_exchange.keys import parse_accounts
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.server import serving
from krakenbot.apps.exchange_building import build, steady_clock
from krakenbot.apps.exchange_options import ExchangeOptions
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import Symbol

SECRET = base64.b64encode(b"a secret of the tests").decode()
ACCOUNTS = [
    {
        "name": "reader",
        "keys": [{"api_key": "key", "api_secret": SECRET, "permissions": ["query-funds", "create-ws-token"]}],
        "balances": {"USD": "1"},
    }
]


@asynccontextmanager
async def feed_at_exchange(
    symbol_count: int, latency: LatencySettings, settings: MarketFeedSettings
) -> AsyncIterator[tuple[KrakenMarketFeed, list[Symbol], str]]:
    """Serve an exchange; yield a feed that does not run yet, the exchange's symbols and its REST URL."""
    options = ExchangeOptions(symbols=symbol_count)
    exchange, flow = build(options, parse_accounts(json.dumps(ACCOUNTS)), steady_clock(), None)
    symbols = sorted(Symbol(symbol) for symbol in exchange.venue.markets)
    async with serving(exchange, flow, latency, host="127.0.0.1", port=0, seed=1) as endpoints:
        clock, urls = SystemClock(), endpoints.urls()
        rest = KrakenRest(
            settings=RestSettings(base_url=urls["rest_url"]),
            clock=clock,
            credentials=Credentials(api_key=Secret("key"), private_key=Secret(SECRET)),
            nonces=NonceSource(clock=clock),
        )

        async def token() -> str:
            return (await rest.websockets_token()).reveal()

        feed = KrakenMarketFeed(
            public_url=urls["ws_public_url"],
            level3_url=urls["ws_level3_url"],
            clock=clock,
            token_source=token,
            settings=settings,
        )
        async with rest:
            yield feed, symbols, urls["rest_url"]


def is_whole(feed: KrakenMarketFeed, symbols: list[Symbol]) -> bool:
    """Tell whether every book and queue is valid."""
    books = [*map(feed.book, symbols), *map(feed.queue, symbols)]
    return all(book is not None and book.is_valid for book in books)
