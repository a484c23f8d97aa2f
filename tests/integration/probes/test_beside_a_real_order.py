"""A probe beside a real order at the same place, on the local exchange: both fill at the same time, or neither does.

The probe takes the front of a level of its own, one increment better than the touch; a real order of the same size is
then placed there over REST, right behind it. Another account's takers eat it. All that the probe knows came over the
level3 and trade sockets; the real order's fills are asked of the exchange over REST. Both times are the venue's:
they may differ by TOLERANCE_S, the latencies of two connections do not enter.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import anyio
import pytest
from attrs import define

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed
from krakenbot.adapters.kraken.nonce import NonceSource
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.local_exchange.keys import parse_accounts
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.server import serving
from krakenbot.apps.exchange_building import build, steady_clock
from krakenbot.apps.exchange_options import ExchangeOptions
from krakenbot.domain.market.probe import Probe, ProbeEnd, ProbeKind
from krakenbot.domain.market.probe_follower import ProbeFollower
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import NS_PER_S, Side, Symbol

SECRET = base64.b64encode(b"a secret of the tests").decode()
BALANCES = {"USD": "1000000", "BTC": "100"}
ACCOUNTS = [
    {"name": name, "keys": [{"api_key": name, "api_secret": SECRET}], "balances": BALANCES}
    for name in ("maker", "taker", "reader")
]
BTC = Symbol("BTC/USD")
TOLERANCE_S = 0.005


@define
class Follow:
    """Tells a follower of one symbol what the feed tells."""

    feed: KrakenMarketFeed
    follower: ProbeFollower | None = None

    def on_queue(self, symbol: Symbol) -> None:
        queue = self.feed.queue(symbol)
        if self.follower is not None and queue is not None and symbol == BTC:
            self.follower.on_queue(queue, SystemClock().mono())

    def on_trades(self, trades: Sequence[PublicTrade], *, is_snapshot: bool) -> None:
        queue = self.feed.queue(BTC)
        for trade in trades:
            if self.follower is not None and queue is not None and trade.symbol == BTC and not is_snapshot:
                queue.places.on_trade(trade)
                self.follower.on_trade(trade, SystemClock().mono())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *_, **__: None


def signed(urls: dict[str, str], key: str) -> KrakenRest:
    clock = SystemClock()
    return KrakenRest(
        settings=RestSettings(base_url=urls["rest_url"]),
        clock=clock,
        credentials=Credentials(api_key=Secret(key), private_key=Secret(SECRET)),
        nonces=NonceSource(clock=clock),
    )


async def ask(rest: KrakenRest, endpoint: str, **params: str) -> Any:
    return json.loads(bytes(await rest.private(endpoint, params)))


async def until(condition: Any) -> None:
    with anyio.move_on_after(10):
        while not condition():
            await anyio.sleep(0.005)
        return
    pytest.fail("it never came to that")


@pytest.mark.parametrize(
    ("sells", "end"),
    [
        (("0.4", "0.6"), ProbeEnd.CONSUMED),
        # so much more than the level holds that the taker goes through it
        (("0.4", "3.0"), ProbeEnd.SWEPT),
    ],
)
async def test_probe_and_real_order_fill_at_the_same_time(sells, end):
    exchange, flow = build(ExchangeOptions(symbols=2), parse_accounts(json.dumps(ACCOUNTS)), steady_clock(), None)
    latency = LatencySettings(median_ms=5.0, p99_ms=20.0)
    async with serving(exchange, flow, latency, host="127.0.0.1", port=0, seed=1) as endpoints:
        urls = endpoints.urls()
        reader, maker, taker = (signed(urls, name) for name in ("reader", "maker", "taker"))

        async def token() -> str:
            return (await reader.websockets_token()).reveal()

        feed = KrakenMarketFeed(
            public_url=urls["ws_public_url"], level3_url=urls["ws_level3_url"], clock=SystemClock(), token_source=token
        )
        follow = Follow(feed)
        async with reader, maker, taker, anyio.create_task_group() as tasks:
            tasks.start_soon(feed.run, follow)
            feed.set_symbols([BTC], [BTC])
            await until(lambda: (queue := feed.queue(BTC)) is not None and queue.is_valid)
            probe, fills = await beside(feed, follow, maker, taker, sells)
            tasks.cancel_scope.cancel()

    times_s = [float(fill["time"]) for fill in fills]
    assert end is probe.end
    assert probe.first_fill_at_ns is not None
    assert probe.first_fill_at_ns / NS_PER_S == pytest.approx(min(times_s), abs=TOLERANCE_S)
    assert probe.ended_at_ns / NS_PER_S == pytest.approx(max(times_s), abs=TOLERANCE_S)
    assert Decimal(1) == sum((Decimal(fill["vol"]) for fill in fills), Decimal(0))


async def beside(
    feed: KrakenMarketFeed, follow: Follow, maker: KrakenRest, taker: KrakenRest, sells: tuple[str, ...]
) -> tuple[Probe, list[dict[str, Any]]]:
    """Start the probe, place the order behind it, let takers eat both; return the probe and the order's fills."""
    queue, clock = feed.queue(BTC), SystemClock()
    assert queue is not None
    instrument = feed.instruments()[BTC]
    follow.follower = ProbeFollower(instrument, 2.0)
    price_ticks = (queue.best(Side.BUY) or 0) + instrument.ticks_of(instrument.price_increment)
    price = instrument.price_of(price_ticks)
    probe = follow.follower.start(
        queue,
        probe_no=1,
        kind=ProbeKind.IMPROVE,
        side=Side.BUY,
        size_quote=float(price),
        timeout_s=60.0,
        away_spread_share=100.0,
        now_mono=clock.mono(),
    )
    assert probe is not None
    added = await ask(
        maker, "AddOrder", type="buy", ordertype="limit", price=str(price), volume="1", pair="XBTUSD", oflags="post"
    )
    (order_id,) = added["txid"]
    await until(lambda: queue.position_of(order_id) is not None)
    for volume in [*sells, *["0.2"] * 20]:
        await ask(taker, "AddOrder", pair="XBTUSD", type="sell", ordertype="market", volume=volume)
        await anyio.sleep(0.1)
        # others may have come before the order, or better: then it takes more
        if queue.position_of(order_id) is None:
            break
    await until(lambda: probe.end is not None)
    await anyio.sleep(0.2)
    history = await ask(maker, "TradesHistory")
    return probe, [trade for trade in history["trades"].values() if trade["ordertxid"] == order_id]
