"""The rate budget and the tie-out against the local exchange over real sockets, beside its own counter and ledger."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import anyio
import pytest
from attrs import define, field
from tests.events import Events

from krakenbot.adapters.clock.system import RandomIdSource, SystemClock
from krakenbot.adapters.kraken.execution_feed import ExecutionFeedSettings, KrakenExecutionFeed
from krakenbot.adapters.kraken.nonce import NonceSource
from krakenbot.adapters.kraken.order_gateway import KrakenOrderGateway, OrderGatewaySettings
from krakenbot.adapters.kraken.private_stream import PrivateStream, PrivateStreamSettings
from krakenbot.adapters.kraken.ratelimit import rest_tier
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.kraken.venue_query import KrakenVenueQuery, VenueQuerySettings
from krakenbot.adapters.local_exchange.keys import parse_accounts
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.matching.operator import Operator
from krakenbot.adapters.local_exchange.matching.rate_counter import UNITS_PER_COUNT
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.server import serving
from krakenbot.apps.exchange_building import build, steady_clock
from krakenbot.apps.exchange_options import ExchangeOptions
from krakenbot.domain.engine.counted_gateway import CountedGateway
from krakenbot.domain.engine.rate_keeper import RateKeeper
from krakenbot.domain.errors import VenueRejected, VenueUnavailable
from krakenbot.domain.execution.fills import Fill, fill_from_report
from krakenbot.domain.execution.ids import make_cl_ord_id
from krakenbot.domain.execution.ledger import Cause
from krakenbot.domain.execution.ledger_chain import first_cursor
from krakenbot.domain.execution.order import Order, OrderEvent, OrderRole, OrderType
from krakenbot.domain.execution.position import apply_fill, flat_position
from krakenbot.domain.execution.rate import AccountTier
from krakenbot.domain.execution.reports import ExecType, ExecutionBatch, ExecutionReport
from krakenbot.domain.execution.tie_out import tie_out
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import Asset, Side

PRIVATE_KEY = base64.b64encode(b"a secret of these tests").decode()
pytestmark = pytest.mark.anyio


@define
class Desk:
    """A counted gateway with its keeper, the exchange behind it, and every moment at which the two were compared."""

    exchange: Exchange
    gateway: CountedGateway
    keeper: RateKeeper
    tracker: OrderTracker
    query: KrakenVenueQuery
    instrument: Instrument
    bid: Decimal
    said: Events
    make_order: Callable[..., Order]
    orders: dict[str, Order] = field(factory=dict)
    reports: list[ExecutionReport] = field(factory=list)
    gaps: list[float] = field(factory=list)
    ids: RandomIdSource = field(factory=RandomIdSource)

    def compare(self) -> None:
        """Note how far the model is above the exchange's own counter at this instant."""
        self.exchange.catch_up()
        venue = self.exchange.venue
        counter = venue.accounts["trader"].counter(self.instrument.symbol)
        real = counter.settle(venue.now_ns) / UNITS_PER_COUNT
        self.gaps.append(self.keeper.budget.points(self.instrument.symbol, SystemClock().mono()) - real)

    def take(self, batch: ExecutionBatch) -> None:
        for report in batch.reports:
            self.tracker.apply_report(report, datetime.now(UTC))  # noqa: TID251 - a test has no clock of its own
            self.keeper.take(report)
            self.reports.append(report)
            self.compare()

    async def submit(self, role: OrderRole = OrderRole.ENTRY, **fields: object) -> Order:
        far = self.instrument.round_price(self.bid * Decimal("0.9"), Side.BUY)
        order = self.make_order(
            **{
                "cl_ord_id": make_cl_ord_id(role, self.ids.order_suffix()),
                "role": role,
                "symbol": self.instrument.symbol,
                "qty": self.instrument.round_qty(Decimal("0.01")),
                "limit_price": far,
                **fields,
            }
        )
        self.tracker.add(order)
        self.orders[order.cl_ord_id] = order
        self.tracker.apply_event(order.cl_ord_id, OrderEvent.SUBMIT_SENT, at=order.created_at)
        await self.gateway.submit(order)
        self.compare()
        return order

    async def wait_for(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(8):
            while not condition():
                await anyio.sleep(0.01)

    def fills(self) -> list[Fill]:
        found = []
        for report in self.reports:
            order = self.tracker.find(report.order_id)
            if report.exec_type is ExecType.TRADE and order is not None:
                fill = fill_from_report(order, report, report.at)
                assert isinstance(fill, Fill)
                found.append(fill)
        return found

    async def spot(self) -> dict[Asset, Decimal]:
        return {asset: row.balance for asset, row in (await self.query.balances()).items()}


@asynccontextmanager
async def trading(make_order: Callable[..., Order], tier: AccountTier) -> AsyncIterator[Desk]:
    keys = [{"api_key": "key", "api_secret": PRIVATE_KEY}]
    account = {"name": "trader", "keys": keys, "balances": {"USD": "25000", "BTC": "1"}, "tier": tier.value}
    exchange, flow = build(ExchangeOptions(symbols=2), parse_accounts(json.dumps([account])), steady_clock(), None)
    latency = LatencySettings(median_ms=10.0, p99_ms=60.0)
    clock, said = SystemClock(), Events()
    async with serving(exchange, flow, latency, host="127.0.0.1", port=0, seed=1) as endpoints:
        urls = endpoints.urls()
        async with KrakenRest(
            settings=RestSettings(base_url=urls["rest_url"], tier=rest_tier(AccountTier.PRO)),
            clock=clock,
            credentials=Credentials(api_key=Secret("key"), private_key=Secret(PRIVATE_KEY)),
            nonces=NonceSource(clock=clock),
        ) as rest:
            stream = PrivateStream(
                url=urls["ws_private_url"],
                tokens=rest.websockets_token,
                clock=clock,
                events=said,
                settings=PrivateStreamSettings(),
            )
            query = KrakenVenueQuery(rest=rest, events=said, settings=VenueQuerySettings())
            depth = json.loads(bytes(await rest.public("Depth", {"pair": "XBTUSD", "count": "1"})))
            feed = KrakenExecutionFeed(stream=stream, settings=ExecutionFeedSettings())
            tracker = OrderTracker()
            keeper = RateKeeper(
                clock=clock, execution_feed=feed, tracker=tracker, tier=AccountTier.PRO, event_sink=said
            )
            keeper.on_tier.append(query.set_tier)
            gateway = CountedGateway(
                gateway=KrakenOrderGateway(stream=stream, settings=OrderGatewaySettings()),
                rate=keeper.budget,
                clock=clock,
                symbol_of=lambda cl_ord_id: order.symbol if (order := tracker.get(cl_ord_id)) else None,
            )
            desk = Desk(
                exchange=exchange,
                gateway=gateway,
                keeper=keeper,
                tracker=tracker,
                query=query,
                instrument=next(row for row in await query.instruments() if row.symbol == "BTC/USD"),
                bid=Decimal(next(iter(depth.values()))["bids"][0][0]),
                said=said,
                make_order=make_order,
            )

            async def consume(batches: AsyncIterator[ExecutionBatch]) -> None:
                async for batch in batches:
                    desk.take(batch)

            async with feed.open() as batches, anyio.create_task_group() as tasks:
                tasks.start_soon(consume, batches)
                await desk.wait_for(lambda: feed.is_connected)
                keeper.view()
                yield desk
                tasks.cancel_scope.cancel()


@pytest.fixture
def open_desk(order_of) -> Callable[..., AbstractAsyncContextManager[Desk]]:
    return lambda tier=AccountTier.STARTER: trading(order_of, tier)


async def test_burst_of_entries_and_cancels_is_never_refused_for_its_rate_and_leaves_the_reserve(open_desk):
    """I12 on the lowest tier, which the venue states against a setting that says pro; four bots at once for 1.5 s."""
    refusals: list[str] = []
    held_back: list[float] = []

    async with open_desk() as desk:

        async def trade() -> None:
            with anyio.move_on_after(1.5):
                while True:
                    try:
                        order = await desk.submit()
                    except VenueUnavailable:
                        held_back.append(desk.keeper.budget.points(desk.instrument.symbol, SystemClock().mono()))
                        await anyio.sleep(0.1)
                        continue
                    except VenueRejected as rejected:
                        refusals.append(rejected.reason)
                        continue
                    await cancel(order)

        async def cancel(order: Order) -> None:
            with anyio.CancelScope(shield=True):
                try:
                    await desk.gateway.cancel(order.cl_ord_id)
                except VenueRejected as rejected:
                    refusals.append(rejected.reason)
            desk.compare()

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(trade)
        status = desk.keeper.status()
        # With the entries' share used up an exit still goes out, and its cancel.
        stop = await desk.submit(
            OrderRole.PROTECTIVE_STOP,
            side=Side.SELL,
            order_type=OrderType.STOP_LOSS,
            trigger_price=desk.instrument.round_price(desk.bid * Decimal("0.5"), Side.SELL),
            limit_price=None,
            post_only=False,
            expire_at=None,
        )
        await cancel(stop)

    assert [] == refusals
    assert held_back
    assert min(desk.gaps) >= -1e-6
    assert (60.0, "starter", 0) == (status["threshold"], status["tier"], status["over_limit"])
    assert "tier_differs" in desk.said.names()
    assert desk.query.budget.threshold == 15.0
    assert desk.keeper.counted_reports > 0


async def test_counter_of_the_venue_corrects_a_model_that_started_full(open_desk):
    async with open_desk(AccountTier.PRO) as desk:
        symbol, clock = desk.instrument.symbol, SystemClock()
        desk.keeper.budget.assume_full(symbol, clock.mono() - 30.0)
        before = desk.keeper.budget.points(symbol, clock.mono())
        await desk.submit()
        await desk.wait_for(lambda: desk.keeper.budget.lowered)
        after = desk.keeper.budget.points(symbol, clock.mono())

    assert before > 60.0
    assert after < 2.0
    assert min(desk.gaps) >= -1e-6


async def test_fills_ledger_and_balances_tie_out_to_the_last_digit(open_desk):
    async with open_desk(AccountTier.PRO) as desk:
        now = datetime.now(UTC)  # noqa: TID251 - a test has no clock of its own
        cursor = first_cursor(await desk.query.ledger(now), await desk.spot(), now)
        assert cursor is not None
        cross = desk.instrument.round_price(desk.bid * Decimal("1.05"), Side.BUY)
        await desk.submit(limit_price=cross, post_only=False, qty=Decimal("0.03141592"))
        await desk.wait_for(lambda: sum(fill.qty for fill in desk.fills()) == Decimal("0.03141592"))
        sale = {"side": Side.SELL, "order_type": OrderType.MARKET, "limit_price": None, "post_only": False}
        await desk.submit(OrderRole.MARKET_EXIT, qty=Decimal("0.01111111"), expire_at=None, **sale)
        await desk.wait_for(lambda: sum(f.qty for f in desk.fills() if f.side is Side.SELL) == Decimal("0.01111111"))
        Operator(desk.exchange.venue).change_balance("trader", "USD", Decimal("12.5"), "deposit")
        entries, balances = await desk.query.ledger(now), await desk.spot()
        later = datetime.now(UTC)  # noqa: TID251 - a test has no clock of its own
        fills = desk.fills()
        result = tie_out(cursor, entries, balances, fills, later)
        short = tie_out(cursor, entries, balances, fills[1:], later)
    position = flat_position(desk.instrument.symbol)
    for fill in fills:
        position = apply_fill(position, fill)

    assert ((), False) == (result.unexplained, result.is_pending)
    assert {(Cause.DEPOSIT, "USD", Decimal("12.5"))} == {
        (n.cause, n.asset, n.amount) for n in result.named if n.cause is not Cause.OWN_TRADE
    }
    assert Decimal(1) + position.qty == balances[Asset("BTC")]
    assert Decimal(25_000) + position.realized_quote - position.cost_quote + Decimal("12.5") == balances[Asset("USD")]
    assert result.cursor.at == later
    # A fill that we had not booked would be waited for, and then be named as another program's.
    assert (0, cursor.balances) == (short.entries, short.cursor.balances)
