"""The feed at the local exchange: symbols that come and go at run time, on both streams, without one bad checksum."""

from __future__ import annotations

import base64
import json
from typing import Any

import anyio
import pytest

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
from krakenbot.domain.values import Side, Symbol

SECRET = base64.b64encode(b"a secret of the tests").decode()
ACCOUNTS = [
    {
        "name": "reader",
        "keys": [{"api_key": "key", "api_secret": SECRET, "permissions": ["query-funds", "create-ws-token"]}],
        "balances": {"USD": "1"},
    }
]


class Quiet:
    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *_, **__: None


async def until(condition: Any, feed: KrakenMarketFeed) -> None:
    with anyio.move_on_after(10):
        while not condition():
            await anyio.sleep(0.02)
        return
    pytest.fail(f"never: {feed.health()}")


def all_valid(feed: KrakenMarketFeed, symbols: list[Symbol]) -> bool:
    books = [*map(feed.book, symbols), *map(feed.queue, symbols)]
    return all(book is not None and book.is_valid for book in books)


async def test_symbols_come_and_go_and_every_checksum_is_right():
    options = ExchangeOptions(symbols=8)
    exchange, flow = build(options, parse_accounts(json.dumps(ACCOUNTS)), steady_clock(), None)
    symbols = sorted(Symbol(symbol) for symbol in exchange.venue.markets)
    latency = LatencySettings(median_ms=2.0, p99_ms=10.0)
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
            # two level3 connections for eight symbols
            settings=MarketFeedSettings(level3_symbols=5),
        )
        async with rest, anyio.create_task_group() as tasks:
            tasks.start_soon(feed.run, Quiet())
            feed.set_symbols(symbols[:4], symbols[:4])
            await until(lambda: all_valid(feed, symbols[:4]), feed)
            feed.set_symbols(symbols, symbols)
            await until(lambda: all_valid(feed, symbols), feed)
            feed.set_symbols(symbols[4:], symbols[4:])
            await until(lambda: feed.book(symbols[0]) is None, feed)
            feed.set_symbols(symbols, symbols)
            await until(lambda: all_valid(feed, symbols), feed)
            await until(lambda: min(feed.health().book_ok, feed.health().level3_ok) > 300, feed)
            health = feed.health()
            spreads = [
                (queue.best(Side.BUY) or 0) < (queue.best(Side.SELL) or 0)
                for queue in map(feed.queue, symbols)
                if queue is not None
            ]
            tasks.cancel_scope.cancel()

    assert (0, 0, 0, 0) == (health.book_bad, health.level3_bad, health.resyncs, health.reconnects)
    assert {} == health.errors
    assert () == health.quarantined
    assert [True] * 8 == spreads
    assert health.heartbeat_age_s is not None
    assert health.heartbeat_age_s < 2
