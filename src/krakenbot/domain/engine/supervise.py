"""The execution engine: builds the execution side from its ports and runs it as one task group.

Enters: ports and settings. Leaves: a living engine until it is cancelled. `run` takes the lease, loads rows,
reconciles, then runs every loop. On cancellation it stops cleanly in bounded time: no new entries, own entries
cancelled and confirmed, positions protected, protective stops left standing, what is known committed, the lease given
up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio

from krakenbot.domain.decision.edge import Calibration
from krakenbot.domain.decision.inputs import DecisionSettings
from krakenbot.domain.decision.views import SystemView
from krakenbot.domain.engine.account import AccountKeeper
from krakenbot.domain.engine.clean_stop import stop_cleanly
from krakenbot.domain.engine.counted_gateway import CountedGateway
from krakenbot.domain.engine.desk import OrderDesk
from krakenbot.domain.engine.evaluate import Evaluator
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.execution_status import execution_status
from krakenbot.domain.engine.executions import ExecutionsConsumer
from krakenbot.domain.engine.exits import PositionMonitor
from krakenbot.domain.engine.lease_keeper import LeaseKeeper
from krakenbot.domain.engine.ledger_keeper import LedgerKeeper
from krakenbot.domain.engine.live_flow import LiveFlow
from krakenbot.domain.engine.markouts import MarkoutRecorder
from krakenbot.domain.engine.rate_keeper import RateKeeper
from krakenbot.domain.engine.reconcile import Reconciler
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.engine.replay import replay_journal
from krakenbot.domain.engine.resting import RestingEntries
from krakenbot.domain.errors import ConfigError, StoreUnavailable, VenueRejected, VenueUnavailable
from krakenbot.domain.execution.journal import JournalRecord
from krakenbot.domain.execution.order import OrderEvent, OrderState
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.values import ClOrdId, Symbol
from krakenbot.ports.clock import Clock, IdSource
from krakenbot.ports.cycle_store import CycleStore
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.execution_feed import ExecutionFeed
from krakenbot.ports.journal import Journal
from krakenbot.ports.lease import Lease
from krakenbot.ports.ledger_store import LedgerStore
from krakenbot.ports.market_feed import MarketFeed
from krakenbot.ports.order_gateway import OrderGateway
from krakenbot.ports.order_store import OrderStore
from krakenbot.ports.safety_store import SafetyStore
from krakenbot.ports.state_store import StateStore
from krakenbot.ports.venue_query import VenueQuery

PROCESS = "execution"
WAITING_PROCESS = "execution-waiting"
_RETRY_S = 1.0
_FEED_WAIT_S = 5.0
_FEED_POLL_S = 0.05
_CLOCK_SKEW_S = 1.0
_LIVE_SYMBOLS_MAX = 48
# Of the 30 s in which a position must be protected after a restart (I5) this much may go by waiting for a ladder.
_MONITOR_WAIT_S = 15.0
# With the wait for each of them well below what I5 leaves.
_JOURNAL_TRIES = 3


class ExecutionEngine:
    """The whole execution side, over ports only."""

    def __init__(
        self,
        *,
        clock: Clock,
        ids: IdSource,
        execution_feed: ExecutionFeed,
        gateway: OrderGateway,
        query: VenueQuery,
        market_feed: MarketFeed,
        state_store: StateStore,
        order_store: OrderStore,
        journal: Journal,
        cycle_store: CycleStore,
        safety_store: SafetyStore,
        ledger_store: LedgerStore,
        lease: Lease,
        settings: ExecutionSettings,
        decision_settings: DecisionSettings,
        event_sink: EventSink,
        calibration: Callable[[], Calibration] = Calibration,
        btc_symbol: Symbol | None = None,
    ) -> None:
        if not settings.venue_id:
            raise ConfigError("execution.venue_id is empty: host and account must be known before the engine is built")
        self._clock = clock
        self._feed = execution_feed
        self._query = query
        self._market_feed = market_feed
        self._order_store = order_store
        self._cycle_store = cycle_store
        self._settings = settings
        self._sink = event_sink
        self._btc = btc_symbol or Symbol(f"BTC/{settings.quote_asset}")
        self._journaled: deque[JournalRecord] | None = None
        self._journal_tries = 0
        self._entries_from_mono = 0.0
        self.tracker = OrderTracker()
        self.rate = RateKeeper(
            clock=clock,
            execution_feed=execution_feed,
            tracker=self.tracker,
            tier=settings.tier,
            event_sink=event_sink,
        )
        self.rate.on_tier.append(query.set_tier)
        self.gateway = CountedGateway(gateway=gateway, rate=self.rate.budget, clock=clock, symbol_of=self._symbol_of)
        self.lease = LeaseKeeper(
            clock=clock,
            lease=lease,
            event_sink=event_sink,
            holder=settings.holder,
            ttl_s=settings.lease_ttl_s,
            margin_s=settings.lease_margin_s,
        )
        self.recorder = Recorder(
            clock=clock,
            order_store=order_store,
            journal=journal,
            lease=self.lease,
            tracker=self.tracker,
            event_sink=event_sink,
            store_timeout_s=settings.store_timeout_s,
        )
        self.desk = OrderDesk(
            clock=clock,
            ids=ids,
            gateway=self.gateway,
            order_store=order_store,
            safety_store=safety_store,
            recorder=self.recorder,
            lease=self.lease,
            rate=self.rate.budget,
            settings=settings,
            event_sink=event_sink,
        )
        self.reconciler = Reconciler(
            clock=clock,
            query=query,
            execution_feed=execution_feed,
            order_store=order_store,
            recorder=self.recorder,
            desk=self.desk,
            settings=settings,
            event_sink=event_sink,
        )
        self.executions = ExecutionsConsumer(
            clock=clock,
            execution_feed=execution_feed,
            recorder=self.recorder,
            reconciler=self.reconciler,
            settings=settings,
            event_sink=event_sink,
        )
        self.monitor = PositionMonitor(
            clock=clock,
            query=query,
            market_feed=market_feed,
            order_store=order_store,
            recorder=self.recorder,
            desk=self.desk,
            settings=settings,
            event_sink=event_sink,
        )
        self.account = AccountKeeper(
            clock=clock,
            query=query,
            market_feed=market_feed,
            order_store=order_store,
            safety_store=safety_store,
            recorder=self.recorder,
            settings=settings,
            event_sink=event_sink,
        )
        self.ledger = LedgerKeeper(
            clock=clock,
            query=query,
            order_store=order_store,
            ledger_store=ledger_store,
            recorder=self.recorder,
            settings=settings,
            event_sink=event_sink,
        )
        self.account.untied = self.ledger.untied
        self.account.on_strange.append(self.ledger.ask)
        self.markouts = MarkoutRecorder(
            clock=clock, market_feed=market_feed, order_store=order_store, settings=settings
        )
        self.live_flow = LiveFlow(clock=clock, market_feed=market_feed, event_sink=event_sink)
        self.resting = RestingEntries(
            clock=clock,
            market_feed=market_feed,
            live_flow=self.live_flow,
            recorder=self.recorder,
            desk=self.desk,
            settings=settings,
            queue_settings=decision_settings.queue,
            btc_symbol=self._btc,
            event_sink=event_sink,
        )
        self.evaluator = Evaluator(
            clock=clock,
            state_store=state_store,
            cycle_store=cycle_store,
            safety_store=safety_store,
            account=self.account,
            desk=self.desk,
            system=self._system_view,
            settings=settings,
            decision_settings=decision_settings,
            calibration=calibration,
            event_sink=event_sink,
        )
        self.recorder.on_fill += [self.monitor.wake, self.account.take, self.markouts.take]
        self.recorder.on_incomplete.append(self.reconciler.ask_soon)
        self.executions.on_report.append(self.rate.take)

    async def run(self) -> None:
        """Run until cancelled, then stop cleanly; raises LeaseLost when another process leads."""
        await self._acquire()
        stop = anyio.Event()
        async with anyio.create_task_group() as outer:
            outer.start_soon(self._serve, stop)
            try:
                await anyio.sleep_forever()
            finally:
                stop.set()

    async def _acquire(self) -> None:
        """Wait for the lease, and say meanwhile who has it."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._tell_waiting)
                await self.lease.acquire()
                tasks.cancel_scope.cancel()
        except BaseException:
            # Told to stop in the moment in which it was taken.
            with anyio.CancelScope(shield=True):
                await self.lease.release()
            raise

    async def _tell_waiting(self) -> None:
        while True:
            await self._clock.sleep(1.0)
            if self.lease.waits_for is not None:
                body: dict[str, object] = {"waits_for": self.lease.waits_for, "holder": self._settings.holder}
                await self._put_status(WAITING_PROCESS, body)

    async def _serve(self, stop: anyio.Event) -> None:
        # Shielded as a whole: cancellation arrives as `stop`, so that the clean stop finds its feed and store alive.
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as core:
                core.start_soon(self.lease.run)
                core.start_soon(self._status)
                if await self._until(stop, self._replay) and await self._until(stop, self._load):
                    core.start_soon(self.recorder.run)
                    core.start_soon(self.executions.run)
                    core.start_soon(self.executions.watch_overdue)
                    core.start_soon(self._market_feed.run, self.live_flow)
                    core.start_soon(self._keep_symbols)
                    core.start_soon(self._monitor)
                    core.start_soon(self.markouts.run)
                    if await self._until(stop, self._reconcile):
                        core.start_soon(self.reconciler.run)
                        core.start_soon(self.account.run)
                        core.start_soon(self.ledger.run)
                        await self._trade(stop)
                    await self._stop_cleanly()
                await self.recorder.close_journal()
                await self.lease.release()
                core.cancel_scope.cancel()

    async def _until(self, stop: anyio.Event, step: Callable[[], Awaitable[bool]]) -> bool:
        """Repeat a step until it succeeds; False when the stop came first."""
        while not stop.is_set():
            if await step():
                return True
            with anyio.move_on_after(_RETRY_S):
                await stop.wait()
        return False

    async def _trade(self, stop: anyio.Event) -> None:
        """Evaluate and keep entries until the stop."""
        async with anyio.create_task_group() as entries:
            entries.start_soon(self.evaluator.run)
            entries.start_soon(self.resting.run)
            await stop.wait()
            entries.cancel_scope.cancel()

    async def _replay(self) -> bool:
        """Take what an earlier process had to journal into the database, before anything is read from it.

        A journal that can't be read holds the start up for a few tries only: then positions are protected without it,
        and no entry is made until it was read.
        """
        if self._journaled is None:
            records = await self.recorder.open_journal()
            if records is None:
                self._journal_tries += 1
                return self._journal_tries >= _JOURNAL_TRIES
            self._journaled = deque(records)
        try:
            with anyio.fail_after(self._settings.query_timeout_s):
                await replay_journal(self._journaled, self._order_store, self.lease.epoch, self._sink)
        except (StoreUnavailable, TimeoutError) as error:
            self._sink.emit("start_waiting", step="journal", error=str(error) or "timeout")
            return False
        self.recorder.note_replayed()
        return True

    async def _load(self) -> bool:
        """Load rows and instruments; what an earlier process may have sent has an unknown outcome."""
        try:
            with anyio.fail_after(self._settings.query_timeout_s):
                book = await self._order_store.load_live(self._settings.venue_id)
                instruments: dict[Symbol, Instrument] = {i.symbol: i for i in await self._query.instruments()}
        except (StoreUnavailable, VenueUnavailable, VenueRejected, TimeoutError) as error:
            self._sink.emit("start_waiting", step="load", error=str(error) or "timeout")
            return False
        self.tracker.load(book.orders, book.positions, book.exec_ids)
        # What an earlier process spent there this one did not see (I12).
        self.rate.start_from(book.changed_at, {order.symbol for order in book.orders})
        self.monitor.set_instruments(instruments)
        self.reconciler.start_from(book.reconciled_at, book.last_fill_at)
        at = self._clock.now()
        for order in self.tracker.live():
            if order.state in {OrderState.PENDING_SUBMIT, OrderState.SUBMITTED}:
                self.recorder.take(
                    self.tracker.apply_event(order.cl_ord_id, OrderEvent.OUTCOME_UNKNOWN, at=at, reason="restart")
                )
                # The old leader may have been about to send it; its deadline bounds how long that can take.
                self._entries_from_mono = self._clock.mono() + self._settings.deadline_s + _CLOCK_SKEW_S
        self.monitor.distrust_intents()
        self._sink.emit("loaded", orders=len(book.orders), positions=len(book.positions), fills=len(book.exec_ids))
        return True

    async def _reconcile(self) -> bool:
        """Reconcile before the first entry, once nothing of an earlier process can still reach the venue."""
        at = self._clock.now()
        deadlines = [o.deadline_at for o in self.tracker.live() if o.state is OrderState.UNKNOWN and o.deadline_at]
        # An amend under way is answered by the first ladder after its own deadline, not before.
        amends = [o.state_at for o in self.tracker.live() if o.state is OrderState.PENDING_AMEND and o.state_at]
        deadlines += [sent_at + timedelta(seconds=self._settings.deadline_s) for sent_at in amends]
        horizon = max(deadlines, default=at) + timedelta(seconds=_CLOCK_SKEW_S if deadlines else 0.0)
        wait_s = min((horizon - at).total_seconds(), self._settings.deadline_s + _CLOCK_SKEW_S)
        if wait_s > 0:
            await self._clock.sleep(wait_s)
        await self._wait_for_feed()
        if not await self.reconciler.reconcile():
            return False
        self.account.is_watching = True
        return True

    async def _wait_for_feed(self) -> None:
        """Give the executions feed a moment to connect; without it a ladder proves nothing."""
        waited_s = 0.0
        while not self._feed.is_connected and waited_s < _FEED_WAIT_S:
            await self._clock.sleep(_FEED_POLL_S)
            waited_s += _FEED_POLL_S

    async def _monitor(self) -> None:
        """Start the monitor once a ladder has shown which stops are alive; without an answer, after a while."""
        waited_s = 0.0
        while not self.reconciler.ladders and waited_s < _MONITOR_WAIT_S:
            await self._clock.sleep(self._settings.monitor_interval_s)
            waited_s += self._settings.monitor_interval_s
        await self.monitor.run()

    async def _stop_cleanly(self) -> None:
        await stop_cleanly(
            desk=self.desk,
            tracker=self.tracker,
            reconciler=self.reconciler,
            monitor=self.monitor,
            recorder=self.recorder,
            sink=self._sink,
            timeout_s=self._settings.stop_timeout_s,
        )
        await self._publish()

    async def _keep_symbols(self) -> None:
        """Keep the live feed on the symbols that have an order or a position, until cancelled."""
        held: tuple[Symbol, ...] | None = None
        while True:
            wanted = {o.symbol for o in self.tracker.live()} | {p.symbol for p in self.tracker.positions()}
            if wanted:
                wanted.add(self._btc)
            more = sorted(self.markouts.symbols() - wanted)
            symbols = tuple(sorted(wanted)) + tuple(more[: max(0, _LIVE_SYMBOLS_MAX - len(wanted))])
            if symbols != held:
                held = symbols
                self.live_flow.keep(set(symbols))
                self._market_feed.set_symbols(symbols, symbols)
            await self._clock.sleep(self._settings.monitor_interval_s)

    def _system_view(self) -> SystemView:
        settled = (
            self.recorder.is_store_available
            and self.recorder.is_journal_usable
            and not self.tracker.overdue(self._clock.now(), self._settings.fills_overdue_s)
            and self._clock.mono() >= self._entries_from_mono
        )
        return SystemView(
            lease_held=self.lease.is_held,
            venue_status=self._feed.venue_status if self._feed.is_connected else "unknown",
            reconciled=self.reconciler.is_clean and settled,
            account_age_s=self.account.age_s,
            asked_generation=None,
            rate=self.rate.view(),
        )

    def _symbol_of(self, cl_ord_id: ClOrdId) -> Symbol | None:
        order = self.tracker.get(cl_ord_id)
        return None if order is None else order.symbol

    # status

    async def _status(self) -> None:
        # Also when this process was killed and started anew: what a waiting one said last is over.
        await self._put_status(WAITING_PROCESS, {"waits_for": None})
        while True:
            await self._publish()
            await self._clock.sleep(1.0)

    async def _publish(self) -> None:
        await self._put_status(PROCESS, self.status())

    async def _put_status(self, process: str, body: dict[str, object]) -> None:
        try:
            with anyio.fail_after(self._settings.store_timeout_s):
                await self._cycle_store.publish_status(process, self._clock.now(), body)
        except (StoreUnavailable, TimeoutError) as error:
            self._sink.emit("status_not_published", error=str(error) or "timeout")

    def status(self) -> dict[str, object]:
        """Return the state of the engine as plain JSON values."""
        return execution_status(
            clock=self._clock,
            settings=self._settings,
            feed=self._feed,
            market_feed=self._market_feed,
            recorder=self.recorder,
            lease=self.lease,
            executions=self.executions,
            reconciler=self.reconciler,
            account=self.account,
            ledger=self.ledger,
            query=self._query,
            evaluator=self.evaluator,
            monitor=self.monitor,
            resting=self.resting,
            markouts=self.markouts,
            rate=self.rate,
            gateway=self.gateway,
        )
