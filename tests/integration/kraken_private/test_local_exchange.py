"""Private access against the local exchange over real sockets: the life of orders, and the REST reads beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import anyio
import pytest
from attrs import define, evolve, field
from tests.events import Events

from krakenbot.adapters.clock.system import RandomIdSource, SystemClock
from krakenbot.adapters.kraken.execution_feed import ExecutionFeedSettings, KrakenExecutionFeed
from krakenbot.adapters.kraken.nonce import NonceSource
from krakenbot.adapters.kraken.order_gateway import KrakenOrderGateway, OrderGatewaySettings
from krakenbot.adapters.kraken.private_stream import PrivateStream, PrivateStreamSettings
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.kraken.venue_query import KrakenVenueQuery, VenueQuerySettings
from krakenbot.adapters.local_exchange.keys import parse_accounts
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.server import serving
from krakenbot.apps.exchange_building import build, steady_clock
from krakenbot.apps.exchange_options import ExchangeOptions
from krakenbot.domain.decision.plan import StopTrigger
from krakenbot.domain.errors import VenueRejected, VenueUnavailable
from krakenbot.domain.execution.order import Order, OrderRole, OrderType
from krakenbot.domain.execution.reports import ExecType, ExecutionBatch, ExecutionReport
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import ClOrdId, Side

PRIVATE_KEY = base64.b64encode(b"a secret of these tests").decode()
ACCOUNTS = json.dumps(
    [
        {
            "name": "trader",
            "keys": [{"api_key": "key", "api_secret": PRIVATE_KEY}],
            "balances": {"USD": "25000", "BTC": "1"},
        }
    ]
)
pytestmark = pytest.mark.anyio


@define
class Trader:
    """One account's private access, its feed open, with all batches so far."""

    stream: PrivateStream
    feed: KrakenExecutionFeed
    gateway: KrakenOrderGateway
    query: KrakenVenueQuery
    rest: KrakenRest
    instrument: Instrument
    bid: Decimal
    make_order: Callable[..., Order]
    batches: list[ExecutionBatch] = field(factory=list)
    ids: RandomIdSource = field(factory=RandomIdSource)

    def order(self, **fields: object) -> Order:
        """Return an entry far below the bid, changed by `fields`."""
        far = self.instrument.round_price(self.bid * Decimal("0.9"), Side.BUY)
        return self.make_order(
            **{
                "cl_ord_id": ClOrdId(f"kbt{self.ids.order_suffix()}"),
                "symbol": self.instrument.symbol,
                "qty": self.instrument.round_qty(Decimal("0.01")),
                "limit_price": far,
                **fields,
            }
        )

    def market_sell(self) -> Order:
        return self.order(
            side=Side.SELL,
            role=OrderRole.MARKET_EXIT,
            order_type=OrderType.MARKET,
            limit_price=None,
            post_only=False,
            deadline_at=None,
            expire_at=None,
        )

    def reports(self, order_id: str) -> list[ExecutionReport]:
        return [report for batch in self.batches for report in batch.reports if report.order_id == order_id]

    async def wait_until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(8):
            while not condition():
                await anyio.sleep(0.01)

    async def wait_for(self, order_id: str, exec_type: ExecType) -> ExecutionReport:
        def found() -> list[ExecutionReport]:
            return [report for report in self.reports(order_id) if report.exec_type is exec_type]

        await self.wait_until(found)
        return found()[0]

    async def drop_connection(self) -> None:
        before = self.stream.connections
        session = self.stream._session
        assert session is not None
        session.close("dropped by the test")
        await self.wait_until(lambda: self.stream.connections > before and self.feed.is_connected)


@asynccontextmanager
async def trading(make_order: Callable[..., Order]) -> AsyncIterator[Trader]:
    exchange, flow = build(ExchangeOptions(symbols=2), parse_accounts(ACCOUNTS), steady_clock(), None)
    latency = LatencySettings(median_ms=2.0, p99_ms=5.0)
    clock, said = SystemClock(), Events()
    async with serving(exchange, flow, latency, host="127.0.0.1", port=0, seed=1) as endpoints:
        urls = endpoints.urls()
        rest = KrakenRest(
            settings=RestSettings(base_url=urls["rest_url"]),
            clock=clock,
            credentials=Credentials(api_key=Secret("key"), private_key=Secret(PRIVATE_KEY)),
            nonces=NonceSource(clock=clock),
        )
        async with rest:
            stream = PrivateStream(
                url=urls["ws_private_url"],
                tokens=rest.websockets_token,
                clock=clock,
                events=said,
                settings=PrivateStreamSettings(),
            )
            query = KrakenVenueQuery(rest=rest, events=said, settings=VenueQuerySettings())
            instrument = next(row for row in await query.instruments() if row.base == "BTC" and row.quote == "USD")
            trader = Trader(
                stream=stream,
                feed=KrakenExecutionFeed(stream=stream, settings=ExecutionFeedSettings()),
                gateway=KrakenOrderGateway(stream=stream, settings=OrderGatewaySettings()),
                query=query,
                rest=rest,
                instrument=instrument,
                bid=await best_bid(rest),
                make_order=make_order,
            )

            async def collect(batches: AsyncIterator[ExecutionBatch]) -> None:
                async for batch in batches:
                    trader.batches.append(batch)

            async with trader.feed.open() as batches, anyio.create_task_group() as tasks:
                tasks.start_soon(collect, batches)
                await trader.wait_until(lambda: trader.feed.is_connected)
                yield trader
                tasks.cancel_scope.cancel()


async def best_bid(rest: KrakenRest) -> Decimal:
    depth = json.loads(bytes(await rest.public("Depth", {"pair": "XBTUSD", "count": "1"})))
    return Decimal(next(iter(depth.values()))["bids"][0][0])


@pytest.fixture
def open_trader(order_of) -> Callable[[], AbstractAsyncContextManager[Trader]]:
    return lambda: trading(order_of)


async def test_order_is_placed_acknowledged_amended_and_cancelled(open_trader) -> None:
    async with open_trader() as trader:
        order = trader.order()
        order_id = await trader.gateway.submit(order)
        opened = await trader.wait_for(order_id, ExecType.NEW)
        resting = [row for row in await trader.query.open_orders() if row.order_id == order_id]
        lower = trader.instrument.round_price(order.limit_price * Decimal("0.99"), Side.BUY)
        await trader.gateway.amend(order, qty=order.qty * 2, limit_price=lower, trigger_price=None, deadline_at=None)
        amended = await trader.wait_for(order_id, ExecType.AMENDED)
        await trader.gateway.cancel(order.cl_ord_id)
        cancelled = await trader.wait_for(order_id, ExecType.CANCELED)
        open_after = await trader.query.open_orders()

    first = trader.reports(order_id)[0]
    assert (ExecType.PENDING_NEW, order.cl_ord_id, order.qty) == (first.exec_type, first.cl_ord_id, first.order_qty)
    assert order_id == opened.order_id
    assert [(order.cl_ord_id, order.qty, order.limit_price, "limit")] == [
        (row.cl_ord_id, row.qty, row.limit_price, row.order_type) for row in resting
    ]
    assert (order.qty * 2, lower) == (amended.order_qty, amended.limit_price)
    assert "canceled" == cancelled.order_status
    assert 0 == len(open_after)


async def test_fill_is_the_same_on_the_stream_and_in_the_history(open_trader) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)  # noqa: TID251 - the exchange lives in real time
    async with open_trader() as trader:
        order = trader.market_sell()
        order_id = await trader.gateway.submit(order)
        await trader.wait_for(order_id, ExecType.FILLED)
        trades = [report for report in trader.reports(order_id) if report.exec_type is ExecType.TRADE]
        fills = [fill for fill in await trader.query.fills(since) if fill.order_id == order_id]
        closed = [row for row in await trader.query.closed_orders(since) if row.order_id == order_id]
        balances = await trader.query.balances()

    assert order.qty == sum(report.last_qty for report in trades if report.last_qty is not None)
    assert {(report.exec_id, report.last_qty, report.last_price, report.cost, False) for report in trades} == {
        (fill.exec_id, fill.qty, fill.price, fill.cost, fill.is_maker) for fill in fills
    }
    assert {(report.fees[0].asset, report.fees[0].qty) for report in trades} == {
        (fill.fee_asset, fill.fee) for fill in fills
    }
    assert [("closed", order.qty)] == [(row.status, row.cum_qty) for row in closed]
    assert Decimal(1) - order.qty == balances["BTC"].balance
    assert Decimal(25000) + sum(fill.cost - fill.fee for fill in fills) == balances["USD"].balance


async def test_lost_connection_brings_a_snapshot_of_open_orders_and_fills_with_gap(open_trader) -> None:
    async with open_trader() as trader:
        resting_id = await trader.gateway.submit(trader.order())
        sold_id = await trader.gateway.submit(trader.market_sell())
        await trader.wait_for(sold_id, ExecType.FILLED)
        exec_ids = {report.exec_id for report in trader.reports(sold_id) if report.exec_type is ExecType.TRADE}
        await trader.drop_connection()
        await trader.wait_until(lambda: trader.batches[-1].is_snapshot)
        snapshot = trader.batches[-1]
        cancelled = trader.order()
        await trader.gateway.submit(cancelled)
        await trader.gateway.cancel(cancelled.cl_ord_id)

    assert (True, True) == (snapshot.is_snapshot, snapshot.gap)
    assert resting_id in {report.order_id for report in snapshot.reports}
    assert exec_ids == {report.exec_id for report in snapshot.reports if report.exec_type is ExecType.TRADE}


async def test_protective_stop_rests_untriggered_and_its_trigger_can_be_amended(open_trader) -> None:
    async with open_trader() as trader:
        stop = evolve(
            trader.market_sell(),
            role=OrderRole.PROTECTIVE_STOP,
            order_type=OrderType.STOP_LOSS,
            trigger=StopTrigger.LAST,
            trigger_price=trader.instrument.round_price(trader.bid * Decimal("0.8"), Side.SELL),
        )
        order_id = await trader.gateway.submit(stop)
        first = await trader.wait_for(order_id, ExecType.PENDING_NEW)
        higher = trader.instrument.round_price(trader.bid * Decimal("0.81"), Side.SELL)
        await trader.gateway.amend(stop, qty=stop.qty, limit_price=None, trigger_price=higher, deadline_at=None)
        resting = [row for row in await trader.query.open_orders() if row.order_id == order_id]

    assert (stop.trigger_price, False) == (first.trigger_price, first.triggered)
    assert [(higher, None, "stop-loss")] == [(row.trigger_price, row.limit_price, row.order_type) for row in resting]


async def test_refusals_of_the_exchange_are_rejections(open_trader) -> None:
    async with open_trader() as trader:
        above = trader.instrument.round_price(trader.bid * Decimal("1.1"), Side.BUY)
        reasons = []
        for order in (
            trader.order(limit_price=above),
            trader.order(qty=trader.instrument.lot),
            trader.order(qty=Decimal(1000)),
        ):
            with pytest.raises(VenueRejected) as caught:
                await trader.gateway.submit(order)
            reasons.append(caught.value.reason)
        with pytest.raises(VenueRejected) as unknown:
            await trader.gateway.cancel(ClOrdId("kbtnobody"))

    assert "EOrder:Post only order" == reasons[0]
    assert "minimum not met" in reasons[1]
    assert "EOrder:Insufficient funds" == reasons[2]
    assert "EOrder:Unknown order" == unknown.value.reason


async def test_reads_beside_the_stream_tell_the_account(open_trader) -> None:
    async with open_trader() as trader:
        order = trader.order()
        await trader.gateway.submit(order)
        status = await trader.query.system_status()
        balances = await trader.query.balances()
        rates = await trader.query.fee_rates([trader.instrument.symbol])
        info = await trader.rest.api_key_info()
        skew = abs(await trader.rest.server_time() - datetime.now(UTC))  # noqa: TID251 - skew is what is asked
        streamed = trader.stream.spot_amounts()

    assert "online" == status
    assert order.limit_price is not None
    assert order.qty * order.limit_price <= balances["USD"].held < order.qty * order.limit_price * Decimal("1.01")
    assert (Decimal(25), Decimal(40)) == (rates["BTC/USD"].maker_bps, rates["BTC/USD"].taker_bps)
    assert not info.may_move_funds
    assert skew < timedelta(seconds=5)
    assert {"USD": Decimal(25000), "BTC": Decimal(1)} == {asset: amount for asset, amount in streamed.items() if amount}


async def test_order_after_the_exchange_is_gone_is_provably_not_sent(open_trader) -> None:
    async with open_trader() as trader:
        order = trader.order()

    with pytest.raises(VenueUnavailable):
        await trader.gateway.submit(order)
