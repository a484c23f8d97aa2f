"""The engine's Kraken adapters against the exchange: two sides without shared code agree on every frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed
from krakenbot.adapters.kraken.nonce import NonceSource
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.kraken.trade_history import KrakenTradeHistory, TradeHistorySettings
from krakenbot.adapters.kraken.venue_query import KrakenVenueQuery, VenueQuerySettings
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import Asset, Symbol

pytestmark = pytest.mark.anyio


class Silent:
    """A listener and an event sink that takes everything."""

    def emit(self, name: str, **fields: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *_, **__: None


def make_rest(api: Any, secret: str) -> KrakenRest:
    clock = SystemClock()
    return KrakenRest(
        settings=RestSettings(base_url=api.urls["rest_url"]),
        clock=clock,
        credentials=Credentials(api_key=Secret("full"), private_key=Secret(secret)),
        nonces=NonceSource(clock=clock),
    )


async def test_the_engine_verifies_every_book_that_the_exchange_sends(run_exchange, secret):
    async with run_exchange() as (api, exchange), make_rest(api, secret) as rest:

        async def token() -> str:
            return (await rest.websockets_token()).reveal()

        symbols = [Symbol(symbol) for symbol in exchange.venue.markets]
        feed = KrakenMarketFeed(
            public_url=api.urls["ws_public_url"],
            level3_url=api.urls["ws_level3_url"],
            clock=SystemClock(),
            token_source=token,
        )
        feed.set_symbols(symbols, symbols)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed.run, Silent())
            with anyio.move_on_after(8):
                while min(feed.health().book_ok, feed.health().level3_ok) < 150:
                    await anyio.sleep(0.05)
            health = feed.health()
            tasks.cancel_scope.cancel()

    assert (0, 0, 0) == (health.book_bad, health.level3_bad, health.resyncs)
    assert min(health.book_ok, health.level3_ok) >= 150
    assert {} == health.errors


async def test_the_engine_reads_trades_of_the_past_page_by_page(run_exchange, secret):
    """Every trade from a time on, through the names, times and numbers of Kraken's REST."""
    symbol = Symbol("BTC/USD")
    async with run_exchange() as (api, exchange), make_rest(api, secret) as rest:
        market = exchange.venue.markets["BTC/USD"]
        history = KrakenTradeHistory(rest=rest, clock=SystemClock(), settings=TradeHistorySettings(interval_s=0.01))
        with anyio.fail_after(15):
            while len(market.trades) < 4:
                await anyio.sleep(0.05)
        first, *published = list(market.trades)
        page = await history.page(symbol, first.at_ns)

    # REST names times in steps of 100 µs, whatever the feed says.
    rules = market.rules
    expected = [
        (
            trade.trade_id,
            trade.taker_side,
            Decimal(trade.price_ticks).scaleb(-rules.price_precision),
            Decimal(trade.size_lots).scaleb(-rules.qty_precision),
            trade.at_ns // 100_000,
        )
        for trade in published
    ]
    read = [(trade.trade_id, trade.side.value, trade.price, trade.qty, trade.at_ns // 100_000) for trade in page.trades]
    assert expected == read[: len(expected)]
    assert [trade.trade_id for trade in page.trades] == [first.trade_id + 1 + n for n in range(len(page.trades))]
    assert {symbol} == {trade.symbol for trade in page.trades}
    assert page.next_since_ns is None


async def test_the_engine_reads_what_the_exchange_says_of_an_account(run_exchange, secret):
    async with run_exchange() as (api, exchange), make_rest(api, secret) as rest:
        query = KrakenVenueQuery(rest=rest, events=Silent(), settings=VenueQuerySettings())
        bid = exchange.venue.markets["BTC/USD"].best("buy")
        order = {"pair": "XBTUSD", "volume": "0.01"}
        await api.post("AddOrder", **order, type="sell", ordertype="market", cl_ord_id="sold")
        price = str(Decimal(bid - 10_000) / 10)
        await api.post("AddOrder", **order, type="buy", ordertype="limit", price=price, cl_ord_id="bid")
        since = datetime.now(UTC) - timedelta(hours=1)  # noqa: TID251, the exchange runs on the wall clock
        instruments = await query.instruments()
        balances = await query.balances()
        opened = await query.open_orders()
        closed = await query.closed_orders(since)
        fills = await query.fills(since)
        (account,) = [a for a in exchange.record.truth()["accounts"] if a["name"] == "trader"]

    assert {"BTC/USD", "ETH/USD"} == {instrument.symbol for instrument in instruments}
    assert {Asset(asset): Decimal(text) for asset, text in account["balances"].items()} == {
        asset: balance.balance for asset, balance in balances.items()
    }
    assert Decimal(account["holds"]["USD"]) == balances[Asset("USD")].held
    assert [("bid", Decimal(price))] == [(order.cl_ord_id, order.limit_price) for order in opened]
    assert [("sold", "closed")] == [(order.cl_ord_id, order.status) for order in closed]
    assert {(f["exec_id"], Decimal(f["cost"]), Decimal(f["fee"])) for f in account["fills"]} == {
        (fill.exec_id, fill.cost, fill.fee) for fill in fills
    }
