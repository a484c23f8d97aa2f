"""The feed at the local exchange: symbols that come and go at run time, on both streams, without one bad checksum."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.integration.kraken_feed.conftest import feed_at_exchange, is_whole

from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed, MarketFeedSettings
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.domain.values import Side


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


async def test_symbols_come_and_go_and_every_checksum_is_right():
    # two level3 connections for eight symbols
    settings = MarketFeedSettings(level3_symbols=5)
    latency = LatencySettings(median_ms=2.0, p99_ms=10.0)
    async with (
        feed_at_exchange(8, latency, settings) as (feed, symbols, _rest_url),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(feed.run, Quiet())
        feed.set_symbols(symbols[:4], symbols[:4])
        await until(lambda: is_whole(feed, symbols[:4]), feed)
        feed.set_symbols(symbols, symbols)
        await until(lambda: is_whole(feed, symbols), feed)
        feed.set_symbols(symbols[4:], symbols[4:])
        await until(lambda: feed.book(symbols[0]) is None, feed)
        feed.set_symbols(symbols, symbols)
        await until(lambda: is_whole(feed, symbols), feed)
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
