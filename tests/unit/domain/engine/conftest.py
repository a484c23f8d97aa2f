"""A world in memory and in virtual time: a venue, a store and a feed that the execution engine runs against.

The venue is the judge: it fails a test at once when an order arrives without a committed row, or twice.
"""

# mypy: disable-error-code="arg-type"
# Ids of the domain are NewTypes of str and int; a fake world writes them as such.
from __future__ import annotations

import asyncio
import itertools
import selectors
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest
from attrs import evolve
from tests.events import Events
from tests.feed_health import feed_health

from krakenbot.adapters.memory.journal import JournalPlace, MemoryJournal
from krakenbot.adapters.memory.ledger_store import MemoryLedgerStore
from krakenbot.domain.decision.inputs import DecisionSettings
from krakenbot.domain.decision.plan import (
    EntryPlan,
    ExitProfile,
    QueueAction,
    RiskApproved,
    StopTrigger,
)
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.supervise import ExecutionEngine
from krakenbot.domain.errors import (
    LeaseLost,
    OutcomeUnknown,
    StoreConflict,
    StoreUnavailable,
    VenueRejected,
    VenueUnavailable,
)
from krakenbot.domain.execution.ledger import LedgerEntry
from krakenbot.domain.execution.order import OrderState, OrderType
from krakenbot.domain.execution.reports import (
    ExecType,
    ExecutionBatch,
    ExecutionReport,
    Fee,
    VenueBalance,
    VenueFill,
    VenueOrder,
)
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.state.safety import EngineMode, EngineState
from krakenbot.domain.values import Side
from krakenbot.ports.order_store import LiveBook
from krakenbot.ports.venue_query import FeeRates, QueryBudget

EPOCH = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SYMBOL = "ABC/USD"


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer: the clock jumps to it."""

    jumped_s = 0.0

    def select(self, timeout=None):
        if timeout is None:
            return super().select(1.0)
        self.jumped_s += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.jumped_s


@pytest.fixture
def anyio_backend():
    return ("asyncio", {"loop_factory": VirtualLoop})


class WorldClock:
    def __init__(self) -> None:
        self.skew_s = 0.0

    def mono(self):
        return anyio.current_time()

    def now(self):
        return self.true_now() + timedelta(seconds=self.skew_s)

    def true_now(self):
        """Return the time without the skew: the venue's."""
        return EPOCH + timedelta(seconds=self.mono())

    def now_ns(self):
        return int(self.now().timestamp() * 1e9)

    async def sleep(self, duration_s):
        await anyio.sleep(duration_s)


class Ids:
    def __init__(self) -> None:
        self._next = itertools.count(1)

    def order_suffix(self):
        return f"{next(self._next):012d}"


class Store:
    """The order store in memory; `is_away` makes every call fail."""

    def __init__(self) -> None:
        self.orders: dict[Any, Any] = {}
        self.events: list[Any] = []
        self.fills: dict[Any, Any] = {}
        self.positions: dict[Any, Any] = {}
        self.protection: list[Any] = []
        self.markouts: dict[Any, Any] = {}
        self.accounts: list[Any] = []
        self.safety: dict[Any, Any] = {}
        self.peak: Any = None
        self.statuses: dict[Any, Any] = {}
        self.reconciled_at: Any = None
        self.journaled: set[Any] = set()
        self.is_away = False
        self.lose_answers = 0

    def _check(self):
        if self.is_away:
            raise StoreUnavailable("away")

    async def insert_entry(self, order, protective, gate):
        await anyio.sleep(0.001)
        self._check()
        self.orders[order.cl_ord_id] = order
        self.orders[protective.cl_ord_id] = protective
        self._answer()

    def _answer(self):
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("connection lost after COMMIT")

    async def apply(self, change, lease_epoch):
        await anyio.sleep(0.001)
        self._check()
        if any(fill.exec_id in self.fills for fill in change.fills):
            raise StoreConflict("fills_pkey")
        if self.journaled & set(change.journal_ids):
            raise StoreConflict("order_journal_pkey")
        if any(order.cl_ord_id in self.orders for order in change.inserts):
            raise StoreConflict("execution_orders_pkey")
        self.journaled |= set(change.journal_ids)
        self.orders |= {order.cl_ord_id: order for order in change.inserts}
        for order in change.orders:
            before = self.orders[order.cl_ord_id]
            assert not before.state.is_terminal or before.state is order.state
            self.orders[order.cl_ord_id] = order
        self.events += change.events
        self.fills |= {fill.exec_id: fill for fill in change.fills}
        self.positions |= {position.symbol: position for position in change.positions}
        self.protection += change.protection
        self.reconciled_at = change.reconciled_at or self.reconciled_at
        self._answer()

    async def load_live(self, venue_id):
        self._check()
        dates = [fill.at for fill in self.fills.values()]
        return LiveBook(
            orders=tuple(o for o in self.orders.values() if not o.state.is_terminal),
            positions=tuple(self.positions.values()),
            exec_ids=frozenset(self.fills),
            last_fill_at=max(dates, default=None),
            reconciled_at=self.reconciled_at,
        )

    async def find_order(self, cl_ord_id):
        self._check()
        return self.orders.get(cl_ord_id)

    async def booked(self, exec_ids):
        self._check()
        return frozenset(exec_ids) & set(self.fills)

    async def entry_notional_since(self, since):
        self._check()
        rows = [o for o in self.orders.values() if o.role == "entry" and o.created_at >= since]
        return len(rows), sum((o.qty * o.limit_price for o in rows), Decimal(0))

    async def realized_since(self, since):
        self._check()
        return sum((p.realized_quote for p in self.positions.values()), Decimal(0))

    async def record_account(self, at, balances, equity_quote, venue_id):
        self._check()
        self.accounts.append((at, balances, equity_quote))

    async def record_markout(self, exec_id, horizon_s, markout_bps, at, venue_id):
        self._check()
        self.markouts[exec_id, horizon_s] = markout_bps

    async def fills_between(self, start, end, symbol):
        return sorted(self.fills.values(), key=lambda fill: fill.at)

    async def set_engine_state(self, state):
        self._check()
        self.engine_state = state

    async def add_latches(self, latches):
        self._check()
        self.engine_state = EngineState(mode=EngineMode.NORMAL, reason="", since=None, latch=",".join(sorted(latches)))

    async def raise_peak(self, venue_id, pnl_quote):
        self._check()
        self.peak = pnl_quote if self.peak is None else max(self.peak, pnl_quote)
        return self.peak

    async def set_symbol_safety(self, safety):
        self._check()
        self.safety[safety.symbol] = safety

    async def record_cycle(self, row):
        self._check()

    async def publish_status(self, process, at, body):
        self._check()
        self.statuses[process] = body

    async def request_refresh(self, at, wait_s):
        await anyio.sleep(wait_s)

    async def read_cycle(self, generation_id, at, max_epoch_age_s):
        raise AssertionError("no generation was given")


class WorldLease:
    def __init__(self) -> None:
        self.epoch = 0
        self.held_by_other = False
        self.released: list[Any] = []

    async def acquire(self, holder, ttl_s):
        if self.held_by_other:
            raise LeaseLost("held by other until later", holder="other")
        self.epoch += 1
        return self.epoch

    async def renew(self, lease_epoch, ttl_s):
        if self.held_by_other or lease_epoch != self.epoch:
            raise LeaseLost("held by other")

    async def release(self, lease_epoch):
        self.released.append(lease_epoch)


class Resting:
    def __init__(self, order, order_id) -> None:
        self.order = order
        self.order_id = order_id
        self.status = "new"
        self.qty = order.qty
        self.cum = Decimal(0)
        self.trigger = order.trigger_price


class Venue:
    """Gateway, query and executions feed of one account."""

    fee_share = Decimal("0.0025")

    def __init__(self, world) -> None:
        self.world = world
        self.orders: dict[Any, Any] = {}
        self.trades: list[Any] = []
        self.submitted: list[Any] = []
        self.cancels: list[Any] = []
        self.amends: list[Any] = []
        self.script: list[Any] = []
        self.cancel_script: list[Any] = []
        self.amend_script: list[Any] = []
        self.sale_refusal: str | None = None
        self.foreign = {"ABC": Decimal(0), "USD": Decimal(10_000)}
        self.hidden: set[Any] = set()
        self.is_connected = False
        self.venue_status = "online"
        self.max_ratecount = None
        self.bookings: list[Any] = []
        self.tiers: list[Any] = []
        self._shown: dict[str, Any] = {}
        self.queries_fail = False
        self.is_muted = False
        self.market_share = Decimal(1)
        self._send: Any = None
        self._numbers = itertools.count(1)

    # gateway

    async def submit(self, order):
        journaled = {record.order.cl_ord_id for record in self.world.journal.records}
        assert order.cl_ord_id in {*self.world.store.orders, *journaled}, f"{order.cl_ord_id} was sent without a row"
        assert order.cl_ord_id not in self.submitted or self.world.may_resend, f"{order.cl_ord_id} was sent twice"
        outcome = self.script.pop(0) if self.script else "ack"
        if order.order_type is OrderType.MARKET and self.sale_refusal is not None:
            outcome = f"reject:{self.sale_refusal}"
        if outcome == "not_sent":
            await anyio.sleep(0.03)
            raise VenueUnavailable("not connected")
        self.submitted.append(order.cl_ord_id)
        await anyio.sleep(0.03)
        if outcome.startswith("reject"):
            raise VenueRejected(outcome.partition(":")[2] or "EOrder:Insufficient funds")
        if outcome == "lost":
            raise OutcomeUnknown(order.cl_ord_id, "timeout")
        resting = self.accept(order)
        if outcome == "lost_alive":
            raise OutcomeUnknown(order.cl_ord_id, "timeout")
        await anyio.sleep(0.03)
        return resting.order_id

    def accept(self, order):
        resting = Resting(order, f"O-{next(self._numbers)}")
        self.orders[order.cl_ord_id] = resting
        self.report(resting, ExecType.PENDING_NEW, cl_ord_id=order.cl_ord_id, symbol=order.symbol, side=order.side)
        self.report(resting, ExecType.NEW)
        if order.order_type is OrderType.MARKET:
            self.fill(order.cl_ord_id, order.qty * self.market_share, self.world.bid)
            if self.market_share < 1:
                self.close(order.cl_ord_id, "canceled")
        return resting

    async def amend(self, order, *, qty, limit_price, trigger_price, deadline_at):
        self.amends.append((order.cl_ord_id, qty, trigger_price))
        await anyio.sleep(0.03)
        outcome = self.amend_script.pop(0) if self.amend_script else "ack"
        if outcome == "not_sent":
            raise VenueUnavailable("not connected")
        if outcome.startswith("reject"):
            raise VenueRejected(outcome.partition(":")[2] or "EOrder:Invalid price")
        if outcome == "lost":
            raise OutcomeUnknown(order.cl_ord_id, "timeout")
        resting = self.orders[order.cl_ord_id]
        if resting.status != "new":
            raise VenueRejected("EOrder:Unknown order")
        resting.qty, resting.trigger = qty, trigger_price
        self.report(resting, ExecType.AMENDED, order_qty=qty)
        if outcome == "lost_done":
            raise OutcomeUnknown(order.cl_ord_id, "timeout")

    async def cancel(self, cl_ord_id):
        self.cancels.append(cl_ord_id)
        await anyio.sleep(0.03)
        outcome = self.cancel_script.pop(0) if self.cancel_script else "ack"
        if outcome == "lost":
            raise OutcomeUnknown(cl_ord_id, "timeout")
        if outcome.startswith("reject:"):
            raise VenueRejected(outcome.removeprefix("reject:"))
        resting = self.orders.get(cl_ord_id)
        if resting is None or resting.status != "new":
            raise VenueRejected("EOrder:Unknown order")
        self.close(cl_ord_id, "canceled")
        if outcome == "lost_done":
            raise OutcomeUnknown(cl_ord_id, "timeout")

    # what happens at the venue

    def fill(self, cl_ord_id, qty, price, *, silent=False):
        resting = self.orders[cl_ord_id]
        order = resting.order
        resting.cum += qty
        trade = VenueFill(
            exec_id=f"E-{next(self._numbers)}",
            order_id=resting.order_id,
            symbol=order.symbol,
            side=order.side,
            price=price,
            qty=qty,
            cost=price * qty,
            fee=price * qty * self.fee_share,
            fee_asset="USD",
            is_maker=order.post_only,
            at=self.world.clock.true_now(),
        )
        self.trades.append(trade)
        if not silent:
            self.tell_trade(resting, trade)
        if resting.cum >= resting.qty:
            resting.status = "filled"
            if not silent:
                self.report(resting, ExecType.FILLED, cum_qty=resting.cum)
        return trade

    def tell_trade(self, resting, trade):
        self.report(
            resting,
            ExecType.TRADE,
            exec_id=trade.exec_id,
            last_qty=trade.qty,
            last_price=trade.price,
            cost=trade.cost,
            cum_qty=resting.cum,
            fees=(Fee(asset=trade.fee_asset, qty=trade.fee),),
        )

    def close(self, cl_ord_id, status, *, silent=False):
        resting = self.orders[cl_ord_id]
        resting.status = status
        if not silent:
            self.report(resting, ExecType(status), cum_qty=resting.cum)

    def report(self, resting, exec_type, **fields):
        row = ExecutionReport(order_id=resting.order_id, exec_type=exec_type, at=self.world.clock.true_now(), **fields)
        self.tell(row)

    def tell(self, *reports: ExecutionReport, is_snapshot=False, gap=False):
        if self.is_muted:
            return
        batch = ExecutionBatch(reports=tuple(reports), is_snapshot=is_snapshot, gap=gap, sequence=None)
        if self._send is None:
            self.world.engine.executions.take(batch)
        else:
            self._send.send_nowait(batch)

    # feed

    @asynccontextmanager
    async def open(self):
        self._send, receive = anyio.create_memory_object_stream[ExecutionBatch](10_000)
        self.is_connected = True
        self.tell(is_snapshot=True)
        try:
            with receive:
                yield receive
        finally:
            self._send.close()
            self._send = None
            self.is_connected = False

    # query

    def _ask(self):
        if self.queries_fail:
            raise VenueUnavailable("EService:Unavailable")

    async def system_status(self):
        return self.venue_status

    async def instruments(self):
        return [self.world.instrument]

    async def balances(self):
        self._ask()
        base = self.foreign["ABC"] + sum(t.qty if t.side is Side.BUY else -t.qty for t in self.trades)
        quote = self.foreign["USD"] - sum((t.cost if t.side is Side.BUY else -t.cost) + t.fee for t in self.trades)
        return {
            "ABC": VenueBalance(asset="ABC", balance=base, held=Decimal(0)),
            "USD": VenueBalance(asset="USD", balance=quote, held=Decimal(0)),
        }

    async def ledger(self, since):
        """Return the bookings of trades, and those that a test has put into `bookings`."""
        self._ask()
        rows = []
        for trade in self.trades:
            sign = 1 if trade.side is Side.BUY else -1
            for asset, amount, fee in (("ABC", sign * trade.qty, 0), ("USD", -sign * trade.cost, trade.fee)):
                rows.append(
                    self.booking(f"{trade.exec_id}-{asset}", asset, amount, fee, ref_id=trade.exec_id, at=trade.at)
                )
        return self._with_balances([*rows, *self.bookings], await self.balances())

    def _with_balances(self, rows, balances):
        """Return the rows with the balance after each; what was shown once does not change."""
        left = {asset: row.balance for asset, row in balances.items()}
        for row in sorted(rows, key=lambda row: row.at, reverse=True):
            shown = self._shown.setdefault(row.ledger_id, evolve(row, balance=left.get(row.asset, Decimal(0))))
            left[row.asset] = shown.balance - shown.change
        return [self._shown[row.ledger_id] for row in rows]

    def booking(self, ledger_id, asset, amount, fee=0, *, ref_id="F-1", kind="trade", at=None):
        return LedgerEntry(
            ledger_id=ledger_id,
            ref_id=ref_id,
            at=at or self.world.clock.true_now(),
            kind=kind,
            subtype="",
            asset=asset,
            amount=Decimal(amount),
            fee=Decimal(fee),
            balance=Decimal(0),
        )

    def set_tier(self, tier):
        self.tiers.append(tier)

    @property
    def budget(self):
        return QueryBudget(points=0.0, threshold=15.0, closed_s=0.0)

    async def fee_rates(self, symbols):
        return {s: FeeRates(maker_bps=Decimal(25), taker_bps=Decimal(40)) for s in symbols}

    def _row(self, resting):
        order = resting.order
        return VenueOrder(
            order_id=resting.order_id,
            cl_ord_id=order.cl_ord_id,
            symbol=order.symbol,
            side=order.side,
            status={"new": "open", "filled": "closed"}.get(resting.status, resting.status),
            order_type=order.order_type,
            qty=resting.qty,
            cum_qty=resting.cum,
            limit_price=order.limit_price,
            trigger_price=resting.trigger,
        )

    def _rows(self):
        return [self._row(r) for cl, r in self.orders.items() if cl not in self.hidden]

    async def open_orders(self):
        self._ask()
        return [row for row in self._rows() if row.status == "open"]

    async def closed_orders(self, since):
        self._ask()
        return [row for row in self._rows() if row.status != "open"]

    async def fills(self, since):
        self._ask()
        return list(self.trades)


class Book:
    """A book of one level a side."""

    is_valid = True
    invalid_reason = ""
    updated_at_ns = 0

    def __init__(self, world) -> None:
        self._world = world

    @property
    def received_mono(self):
        return self._world.book_mono if self._world.book_mono is not None else anyio.current_time()

    def best_bid(self):
        return self._world.instrument.ticks_of(self._world.bid), 1_000_000

    def best_ask(self):
        return self._world.instrument.ticks_of(self._world.ask), 1_000_000

    def levels(self, side, count):
        return [self.best_bid() if side is Side.BUY else self.best_ask()]

    def levels_near(self, side, distance_bps, least):
        return self.levels(side, least)


class Market:
    def __init__(self, world) -> None:
        self._world = world
        self._book = Book(world)
        self.symbols = ()

    async def run(self, listener):
        await anyio.sleep_forever()

    def set_symbols(self, l2, l3):
        self.symbols = tuple(l2)

    def instruments(self):
        return {SYMBOL: self._world.instrument}

    def book(self, symbol):
        return self._book if symbol == SYMBOL and self._world.has_book else None

    def queue(self, symbol):
        return None

    def health(self):
        return feed_health(connected=self._world.book_mono is None)


class World:
    def __init__(self) -> None:
        self.clock = WorldClock()
        self.store = Store()
        self.lease = WorldLease()
        self.journal = JournalPlace()
        self.events = Events()
        self.venue = Venue(self)
        self.market = Market(self)
        self.ids = Ids()
        self.may_resend = False
        self.has_book = True
        self.book_mono = None
        self.bid = Decimal("100.0")
        self.ask = Decimal("100.2")
        self.instrument = Instrument(
            symbol=SYMBOL,
            base="ABC",
            quote="USD",
            status=InstrumentStatus.ONLINE,
            price_precision=1,
            qty_precision=4,
            cost_precision=5,
            price_increment=Decimal("0.1"),
            qty_increment=Decimal("0.0001"),
            qty_min=Decimal("0.05"),
            cost_min=Decimal(1),
        )
        self.engine = self.make_engine()

    def make_engine(self, **settings):
        return ExecutionEngine(
            clock=self.clock,
            ids=self.ids,
            execution_feed=self.venue,
            gateway=self.venue,
            query=self.venue,
            market_feed=self.market,
            state_store=self.store,
            order_store=self.store,
            journal=MemoryJournal(self.journal),
            cycle_store=self.store,
            safety_store=self.store,
            ledger_store=MemoryLedgerStore(),
            lease=self.lease,
            settings=ExecutionSettings(
                venue_id="test", capital_limit_quote=Decimal(1_000), quote_asset="USD", **settings
            ),
            decision_settings=DecisionSettings(),
            event_sink=self.events,
        )

    def plan(self, qty="1", price="100.0", **changes):
        profile = ExitProfile(
            stop_distance_bps=100.0,
            take_profit_bps=100.0,
            trail_distance_bps=None,
            time_stop_s=600.0,
            stop_trigger=StopTrigger.LAST,
        )
        plan = EntryPlan(
            symbol=SYMBOL,
            price=Decimal(price),
            qty=Decimal(qty),
            action=QueueAction.JOIN,
            strategy="liquidity",
            regime="range",
            ttl_s=60.0,
            exit_profile=evolve(profile, **changes),
            lineage_id=1,
            epoch_id=1,
            generation_id=1,
            decided_at=self.clock.now(),
            state_at=self.clock.now(),
            score=1.0,
            record={"edge": {"surplus_bps": 9.0}},
        )
        return RiskApproved(plan=plan)

    @asynccontextmanager
    async def running(self, engine=None):
        """Run an engine to its end: the block's end is the cancellation that a signal would bring."""
        self.engine = engine or self.engine
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.engine.run)
            await self.until(lambda: self.engine.reconciler.is_clean and self.engine.account.age_s is not None)
            yield self.engine
            tasks.cancel_scope.cancel()

    async def enter(self, **plan):
        return await self.engine.desk.enter(self.plan(**plan), self.instrument)

    async def open_entry(self, **plan):
        """Return an entry that rests at the venue."""
        entry_id = await self.enter(**plan)
        await self.until(lambda: self.state(entry_id) is OrderState.OPEN)
        return entry_id

    async def held(self):
        """Return an entry that is filled, has its stop, and of which all is committed."""
        entry_id = await self.open_entry()
        self.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await self.until(lambda: self.stop() is not None and self.engine.recorder.is_settled)
        return entry_id

    async def until(self, is_reached, timeout_s=30.0):
        with anyio.fail_after(timeout_s):
            while not is_reached():
                await anyio.sleep(0.05)

    def stop(self):
        """Return the venue's live sell stop; None when there is none."""
        found = [
            r for r in self.venue.orders.values() if r.order.order_type is OrderType.STOP_LOSS and r.status == "new"
        ]
        assert len(found) <= 1, "two stops are alive"
        return found[0] if found else None

    def position(self):
        return self.engine.tracker.position(SYMBOL).qty

    def state(self, cl_ord_id):
        return self.engine.tracker.get(cl_ord_id).state


@pytest.fixture
async def world():
    return World()
