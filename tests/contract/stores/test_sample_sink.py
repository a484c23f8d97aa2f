"""Contract of the sample sink: trades once, holes noticed and refilled, counters; over memory and real databases."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import anyio

from krakenbot.domain.market.samples import TickerSample, TradeSample
from krakenbot.domain.market.trade_ledger import GapCause, TradeSource
from krakenbot.domain.values import Side, Symbol

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BTC, ETH = Symbol("BTC/USD"), Symbol("ETH/USD")


def make_trade(trade_id: int, symbol: Symbol = BTC) -> TradeSample:
    return TradeSample(
        symbol=symbol,
        trade_id=trade_id,
        side=Side.BUY,
        price=Decimal("1.5"),
        qty=Decimal(1),
        at_ns=trade_id * 10,
        received_at_ns=trade_id * 10 + 1,
    )


async def flushed(sink) -> dict[str, int]:
    with anyio.fail_after(10):
        await sink.flush()
    return dict(sink.stats().rows)


async def test_trade_counts_once_whatever_the_order_and_the_run(stores):
    _, run_id = await stores.lineage.start_lineage(AT)
    _, next_run = await stores.lineage.start_lineage(AT)

    for ids in ([50, 51, 54], [51, 54, 53], [48, 49, 50], [52, 53]):
        stores.sink.put(run_id, [make_trade(i) for i in ids])
        await flushed(stores.sink)
    stores.sink.put(next_run, [make_trade(i) for i in (53, 54, 55)], source=TradeSource.SNAPSHOT)

    assert 8 == (await flushed(stores.sink))["trade_samples"]
    assert [] == list(stores.sink.gaps())


async def test_hole_is_noticed_per_symbol_and_refilled_by_whoever_brings_it(stores):
    _, run_id = await stores.lineage.start_lineage(AT)
    stores.sink.put(run_id, [make_trade(i) for i in (1, 2, 6)])
    stores.sink.put(run_id, [make_trade(i, ETH) for i in (3, 4)])
    await flushed(stores.sink)
    (gap,) = stores.sink.gaps()
    noticed = (gap.symbol, gap.first_id, gap.last_id, gap.cause, gap.since_ns, gap.missing_count)

    stores.sink.put(run_id, [make_trade(4)], source=TradeSource.SNAPSHOT)
    count = stores.sink.refill([make_trade(i) for i in (1, 2, 3, 5, 6, 7)])
    rows = await flushed(stores.sink)

    assert (BTC, 3, 5, GapCause.JUMP, 20, 3) == noticed
    assert (2, 8) == (count, rows["trade_samples"])
    assert [] == list(stores.sink.gaps())
    assert (0, 0, 3) == tuple(
        getattr(stores.sink.stats(), name) for name in ("gaps_open", "trades_missing", "trades_refilled")
    )


async def test_periodic_samples_are_all_kept(stores):
    _, run_id = await stores.lineage.start_lineage(AT)
    ticker = TickerSample(symbol=BTC, at_ns=1, received_at_ns=1, bid=1.0, ask=2.0, last=1.5, volume_24h=9.0)

    stores.sink.put(run_id, [ticker, ticker, ticker])

    assert 3 == (await flushed(stores.sink))["ticker_samples"]
    assert ({}, {}, 0) == (stores.sink.stats().dropped, stores.sink.stats().coalesced, stores.sink.stats().queued)
